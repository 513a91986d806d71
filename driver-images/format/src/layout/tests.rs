use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use rstest::rstest;

use super::*;
use crate::script::{ARRANGE, PLACE};

const SUM: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A layout with everything that one may have; `trees` of it are changed by the cases.
fn whole() -> String {
    format!(
        "needsFirmware: [cxi/link.bin]\n\
         trees:\n\
         - {{name: driver, kind: module, archive: 'https://example.com/driver-{{version}}.tar.gz', sha256: {SUM}, inside: src,\n\
           copy: [{{from: 'conf/{{version}}.mk', to: config.mk}}, {{tree: headers, from: 'hw/*.h', to: include/linux/}}]}}\n\
         - {{name: link, kind: module, git: 'https://example.com/link', ref: 'release/{{version}}', after: [headers],\n\
           firmware: [{{from: 'fw/*.bin', to: cxi/}}, {{from: other.bin}}]}}\n\
         - {{name: headers, kind: headers, directory: 'headers-{{version}}'}}\n"
    )
}

#[test]
fn trees_are_in_the_order_of_their_needs_and_the_release_is_filled_in() {
    let layout = Layout::parse(&whole(), "stack.yaml", "13.0.0").unwrap();
    let names: Vec<&str> = layout.trees.iter().map(|tree| tree.name.as_str()).collect();
    assert_eq!(names, ["headers", "driver", "link"]);
    insta::assert_snapshot!({
        let plan = Plan::of(&layout);
        format!("{}---\n{}---\n{}", plan.copy, plan.firmware.concat(), plan.needs_firmware)
    });
    assert_eq!(
        layout.trees[2].place,
        Place::Git { url: "https://example.com/link".to_owned(), reference: "release/13.0.0".to_owned() }
    );
}

#[test]
fn a_layout_becomes_a_containerfile() {
    let text = whole().replace("directory: 'headers-{version}'", "archive: 'https://example.com/headers.tar.gz'");
    let layout = Layout::parse_for_cluster(&text, "ConfigMap stack", "13.0.0").unwrap();
    let text = crate::containerfile::of_layout(&layout, "cassini");
    let from = text.find("RUN INSIDE").or_else(|| text.find("RUN FIELD")).unwrap();
    let to = text.find("FROM ${RUNTIME_BASE}").unwrap();
    insta::assert_snapshot!(&text[from..to]);
}

#[rstest]
#[case::no_yaml("trees: [", "trees", "unclosed bracket")]
#[case::no_mapping("trees", "", "a layout begins with \"trees:\"")]
#[case::no_trees("trees: []", "trees", "there must be one to 32 trees")]
#[case::unknown_field(
    "trees: [{name: a, kind: module, directory: a, copies: []}]",
    "trees[0].copies",
    "unknown field `copies`"
)]
#[case::unknown_field_of_a_rule(
    "trees: [{name: a, kind: module, directory: a, copy: [{form: x, to: y}]}]",
    "trees[0].copy[0].form",
    "unknown field `form`"
)]
#[case::unknown_kind("trees: [{name: a, kind: modules, directory: a}]", "trees[0].kind", "unknown variant `modules`")]
#[case::duplicate_field("trees: [{name: a, name: b, kind: module, directory: a}]", "", "duplicate")]
#[case::duplicate_name(
    "trees: [{name: a, kind: module, directory: a}, {name: a, kind: headers, directory: b}]",
    "trees[1].name",
    "a is also the name of trees[0]: give each tree a name of its own"
)]
#[case::bad_release("trees: [{name: a, kind: module, directory: a}] # {version}", "", "is not a release")]
#[case::bad_name("trees: [{name: 'a b', kind: module, directory: a}]", "trees[0].name", "is not a name")]
#[case::nothing_to_build("trees: [{name: a, kind: headers, directory: a}]", "trees", "none of them is of kind module")]
#[case::circle(
    "trees: [{name: a, kind: module, directory: a, after: [b]}, {name: b, kind: module, directory: b, copy: [{tree: a, from: x, to: y}]}]",
    "trees[0].after",
    "a → b → a"
)]
#[case::after_itself("trees: [{name: a, kind: module, directory: a, after: [a]}]", "trees[0].after", "a → a")]
#[case::after_nothing(
    "trees: [{name: a, kind: module, directory: a, after: [c]}]",
    "trees[0].after[0]",
    "there is no tree c: the trees are a"
)]
#[case::from_nothing(
    "trees: [{name: a, kind: module, directory: a, copy: [{tree: c, from: x, to: y}]}]",
    "trees[0].copy[0].tree",
    "there is no tree c"
)]
#[case::no_place("trees: [{name: a, kind: module}]", "trees[0]", "needs one of directory, archive, and git")]
#[case::two_places(
    "trees: [{name: a, kind: module, directory: a, archive: b}]",
    "trees[0]",
    "directory and archive are both set: keep one"
)]
#[case::three_places(
    "trees: [{name: a, kind: module, directory: a, archive: b, git: c}]",
    "trees[0]",
    "directory, archive, git are all set: keep one"
)]
#[case::word_in_braces(
    "trees: [{name: a, kind: module, directory: 'driver-{release}'}]",
    "trees[0].directory",
    "unknown {release}: only {version} is replaced"
)]
#[case::variable_of_a_shell(
    "trees: [{name: a, kind: module, git: 'https://x/a', ref: shs-$VERSION}]",
    "trees[0].ref",
    "unknown $VERSION: only {version} is replaced"
)]
#[case::variable_in_braces(
    "trees: [{name: a, kind: module, directory: a, copy: [{from: '${VERSION}/x', to: y}]}]",
    "trees[0].copy[0].from",
    "unknown ${VERSION}: only {version} is replaced"
)]
#[case::a_list("- name: a\n  kind: module", "", "a layout begins with \"trees:\"")]
#[case::empty("", "", "the file is empty")]
#[case::only_comments("# trees\n\n", "", "the file is empty")]
#[case::word_for_a_list(
    "needsFirmware: a\ntrees: [{name: a, kind: module, directory: a}]",
    "needsFirmware",
    "must be a list: [a]"
)]
#[case::word_for_the_order(
    "trees: [{name: a, kind: module, directory: a, after: b}]",
    "trees[0].after",
    "must be a list: [b]"
)]
#[case::one_rule_for_a_list(
    "trees: [{name: a, kind: module, directory: a, copy: {from: a, to: b}}]",
    "trees[0].copy",
    "must be a list: begin each of its parts with -"
)]
#[case::misspelt(
    "trees: [{name: a, kind: module, directry: a}]",
    "trees[0].directry",
    "unknown field `directry`: did you mean `directory`?"
)]
#[case::misspelt_kind(
    "trees: [{name: a, kind: header, directory: a}]",
    "trees[0].kind",
    "unknown variant `header`: did you mean `headers`?"
)]
#[case::to_above(
    "trees: [{name: a, kind: module, directory: a, copy: [{from: x, to: ../y}]}]",
    "trees[0].copy[0].to",
    "leads out of the tree by .."
)]
#[case::to_absolute(
    "trees: [{name: a, kind: module, directory: a, copy: [{from: x, to: /usr/include/}]}]",
    "trees[0].copy[0].to",
    "begins with /"
)]
#[case::from_above(
    "trees: [{name: a, kind: module, directory: a, copy: [{from: 'x/../../*', to: y}]}]",
    "trees[0].copy[0].from",
    "leads out of the tree by .."
)]
#[case::glob_as_place(
    "trees: [{name: a, kind: module, directory: a, copy: [{from: x, to: 'y*'}]}]",
    "trees[0].copy[0].to",
    "a glob belongs into `from`"
)]
#[case::space(
    "trees: [{name: a, kind: module, directory: a, copy: [{from: 'x y', to: y}]}]",
    "trees[0].copy[0].from",
    "has the character ' '"
)]
#[case::firmware_above(
    "trees: [{name: a, kind: module, directory: a, firmware: [{from: x, to: ../y}]}]",
    "trees[0].firmware[0].to",
    "leads out of the tree by .."
)]
#[case::firmware_of_headers(
    "trees: [{name: a, kind: headers, directory: a, firmware: [{from: x}]}, {name: b, kind: module, directory: b}]",
    "trees[0].firmware",
    "brings no firmware"
)]
#[case::needs_above(
    "needsFirmware: [/x]\ntrees: [{name: a, kind: module, directory: a}]",
    "needsFirmware[0]",
    "begins with /"
)]
#[case::inside_above(
    "trees: [{name: a, kind: module, directory: a, inside: ..}]",
    "trees[0].inside",
    "leads out of the tree by .."
)]
#[case::checksum(
    "trees: [{name: a, kind: module, archive: a.tar, sha256: '12'}]",
    "trees[0].sha256",
    "is not a SHA-256"
)]
#[case::checksum_of_a_directory(
    "trees: [{name: a, kind: module, directory: a, sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}]",
    "trees[0].sha256",
    "only an archive has a checksum"
)]
#[case::plain_http(
    "trees: [{name: a, kind: module, archive: 'http://x/a.tar'}]",
    "trees[0].archive",
    "can be changed on its way: use https, or give sha256"
)]
#[case::ftp("trees: [{name: a, kind: module, archive: 'ftp://x/a.tar'}]", "trees[0].archive", "cannot be downloaded")]
#[case::git_without_ref("trees: [{name: a, kind: module, git: 'https://x/a'}]", "trees[0].ref", "is missing")]
#[case::ref_without_git(
    "trees: [{name: a, kind: module, directory: a, ref: v1}]",
    "trees[0].ref",
    "ref belongs to git"
)]
#[case::unsafe_git(
    "trees: [{name: a, kind: module, git: 'git://x/a', ref: v1}]",
    "trees[0].ref",
    "can be changed on its way"
)]
#[case::option_as_url(
    "trees: [{name: a, kind: module, git: '--upload-pack=x', ref: v1}]",
    "trees[0].git",
    "is no place"
)]
fn a_bad_layout_names_file_field_and_fix(#[case] text: &str, #[case] field: &str, #[case] says: &str) {
    let version = if text.ends_with("{version}") { "13\n" } else { "13.0.0" };
    let error = Layout::parse(text, "stack.yaml", version).unwrap_err().to_string();
    let begins = if field.is_empty() { "stack.yaml: ".to_owned() } else { format!("stack.yaml: {field}: ") };
    assert!(error.starts_with(&begins) && error.contains(says), "{error}");
}

#[test]
fn words_of_yaml_stay_words() {
    let text = "trees: [{name: y, kind: module, git: 'https://x/a', ref: 13.0, copy: [{from: 1e3, to: no}]}]";
    let layout = Layout::parse(text, "stack.yaml", "13.0.0").unwrap();
    let tree = &layout.trees[0];
    assert_eq!(tree.place, Place::Git { url: "https://x/a".to_owned(), reference: "13.0".to_owned() });
    assert_eq!((tree.name.as_str(), tree.copy[0].from.as_str(), tree.copy[0].to.as_str()), ("y", "1e3", "no"));
}

#[test]
fn the_page_shows_the_layout_of_the_stand_in() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("../../docs/driver-images.md")).unwrap();
    let section = page.split_once("## The layout of a release").unwrap().1;
    let shown = section.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0;
    let real = fs::read_to_string(root.join("../stand-in/layout.yaml")).unwrap();
    let parse = |text: &str| Layout::parse(text, "layout.yaml", "13.0.0").unwrap();
    assert_eq!(parse(shown), parse(&real));
}

#[test]
fn a_build_in_a_cluster_has_no_files_of_the_build_host() {
    let error = Layout::parse_for_cluster(&whole(), "ConfigMap stack", "13.0.0").unwrap_err().to_string();
    assert_eq!(
        error,
        "ConfigMap stack: trees[2]: a build in the cluster has no file of the tree headers: give archive with an https URL, \
         or git and ref"
    );
}

#[test]
fn any_input_is_a_layout_or_refused() {
    cxi_any_input::text(&[&whole(), "trees: [{name: a, kind: module, directory: a}]"], &|text| {
        let layout = Layout::parse(text, "stack.yaml", "13.0.0");
        if let Ok(layout) = &layout {
            let plan = Plan::of(layout);
            let rules: usize = layout.trees.iter().map(|tree| tree.copy.len()).sum();
            assert_eq!(plan.copy.lines().count(), rules);
            assert!(plan.copy.lines().all(|line| line.split('\t').count() == 5), "{}", plan.copy);
            assert!(plan.copy.split(['\t', '\n']).all(|word| word != ".." && !word.starts_with("../")));
        }
        layout.is_ok().into()
    });
}

// === what the script makes of the rules ===

/// A directory with the trees `01-a`, which has some files, and `02-b`.
fn trees() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in [
        ("sources/01-a/include/x.h", "x"),
        ("sources/01-a/include/y.h", "y"),
        ("sources/01-a/include/deep/z.h", "z"),
        ("sources/01-a/conf/nic.mk", "nic"),
        ("sources/02-b/dkms.conf.in", "conf"),
        ("outside/secret", "secret"),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    for script in [PLACE, ARRANGE] {
        fs::write(root.path().join(script.name), script.text).unwrap();
    }
    root
}

fn arrange(root: &Path, from: &str, glob: &str, place: &str) -> Result<(), String> {
    fs::write(root.join("rules"), format!("f: trees[1].copy[0]\t{from}\t{glob}\t02-b\t{place}\n")).unwrap();
    let Output { status, stderr, .. } = Command::new("sh").arg(root.join(ARRANGE.name)).arg(root).output().unwrap();
    let said = String::from_utf8(stderr).unwrap().replace(&root.display().to_string(), "DIR");
    if status.success() { Ok(()) } else { Err(said.trim_end().to_owned()) }
}

#[rstest]
#[case::a_file("conf/nic.mk", "config.mk", &["config.mk"])]
#[case::into_a_directory("include/*.h", "include/linux/", &["include/linux/x.h", "include/linux/y.h"])]
#[case::flat("include/[xy].h", "./", &["x.h", "y.h"])]
#[case::a_whole_directory("include", "include/uapi/", &["include/uapi/include/deep/z.h", "include/uapi/include/x.h", "include/uapi/include/y.h"])]
#[case::its_content("include/*", "include/", &["include/deep/z.h", "include/x.h", "include/y.h"])]
#[case::as_another_directory("include", "hw", &["hw/deep/z.h", "hw/x.h", "hw/y.h"])]
#[case::over_a_file("conf/nic.mk", "dkms.conf.in", &[])]
fn what_matches_goes_to_its_place(#[case] glob: &str, #[case] place: &str, #[case] files: &[&str]) {
    let root = trees();
    arrange(root.path(), "01-a", glob, place).unwrap();
    let tree = root.path().join("sources/02-b");
    let mut found = Vec::new();
    let mut todo = vec![tree.clone()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.push(path.strip_prefix(&tree).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    let mut expected: Vec<&str> = files.iter().copied().chain(["dkms.conf.in"]).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[rstest]
#[case::nothing(
    "include/*.hpp",
    "include/",
    "trees[1].copy[0].from: include/*.hpp matches nothing in that tree, whose top holds conf include link "
)]
#[case::two_for_one(
    "include/*.h",
    "one.h",
    "trees[1].copy[0].to: one.h is one file and include/*.h matches 2: end the place with /"
)]
#[case::a_directory_as_file(
    "conf/nic.mk",
    "existing",
    "trees[1].copy[0].to: existing is a directory: end the place with /"
)]
#[case::through_a_link(
    "conf/nic.mk",
    "way/config.mk",
    "trees[1].copy[0].to: way/config.mk leads through way, which is a link: name the directory itself"
)]
#[case::onto_a_link("conf/nic.mk", "file", "trees[1].copy[0].to: file leads through file, which is a link")]
#[case::a_link_that_leads_out("link", "config.mk", "trees[1].copy[0].from: link is a link that leads out of the tree")]
#[case::below_a_file(
    "conf/nic.mk",
    "dkms.conf.in/x",
    "trees[1].copy[0].to: dkms.conf.in/x is not a file below directories of the tree"
)]
fn a_rule_that_cannot_be_carried_out_says_which_and_why(#[case] glob: &str, #[case] place: &str, #[case] says: &str) {
    let root = trees();
    let (a, b) = (root.path().join("sources/01-a"), root.path().join("sources/02-b"));
    symlink("../../outside", b.join("way")).unwrap();
    symlink("../../outside/secret", b.join("file")).unwrap();
    symlink("../../outside/secret", a.join("link")).unwrap();
    fs::create_dir(b.join("existing")).unwrap();
    let said = arrange(root.path(), "01-a", glob, place).unwrap_err();
    assert!(said.contains(&format!("cxi-error: f: {says}")), "{said}");
    let outside: Vec<_> = fs::read_dir(root.path().join("outside")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside, ["secret"]);
    assert_eq!(fs::read_to_string(root.path().join("outside/secret")).unwrap(), "secret");
}
