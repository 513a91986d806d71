//! Whether a layout can be carried out, and its trees in order.

use std::collections::BTreeSet;

use super::{InvalidLayout, Kind, Layout, MAX_RULES, MAX_TREES, Place, Rule, Tree, order::order, shape};

/// What is wrong with one field.
type Wrong = (String, String);

/// Checks a layout and brings its trees in order.
pub fn layout(shape: shape::Layout, file: &str) -> Result<Layout, InvalidLayout> {
    // It goes into lines of a plan.
    let file: String = file.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    checked(shape, &file).map_err(|(field, why)| InvalidLayout { file, field, why })
}

fn checked(shape: shape::Layout, file: &str) -> Result<Layout, Wrong> {
    if shape.trees.is_empty() || shape.trees.len() > MAX_TREES {
        return Err(("trees".to_owned(), format!("there must be one to {MAX_TREES} trees")));
    }
    let names: Vec<String> = shape.trees.iter().map(|tree| tree.name.clone()).collect();
    check_names(&names)?;
    if !shape.trees.iter().any(|tree| tree.kind == Kind::Module) {
        return Err((
            "trees".to_owned(),
            "none of them is of kind module: name the tree that has a dkms.conf".to_owned(),
        ));
    }
    let needs = shape.trees.iter().enumerate().map(|(position, tree)| needs(position, tree, &names));
    let needs = needs.collect::<Result<Vec<_>, _>>()?;
    let order = order(&needs).map_err(|circle| {
        let first = circle.first().copied().unwrap_or_default();
        let around: Vec<&str> = circle.iter().chain(circle.first()).map(|at| names[*at].as_str()).collect();
        let why = format!(
            "the order goes round in a circle: {}; each needs the next by `after` or by `tree` of a copy rule: take one of them out",
            around.join(" → ")
        );
        (format!("trees[{first}].after"), why)
    })?;
    for (number, path) in shape.needs_firmware.iter().enumerate() {
        inside(path, false).map_err(|why| (format!("needsFirmware[{number}]"), why))?;
    }
    let mut trees = shape.trees.into_iter().enumerate().map(|(position, shape)| tree(position, shape));
    let trees = trees.by_ref().collect::<Result<Vec<_>, _>>()?;
    let trees = order.into_iter().map(|at| trees[at].clone()).collect();
    Ok(Layout { file: file.to_owned(), trees, needs_firmware: shape.needs_firmware })
}

fn check_names(names: &[String]) -> Result<(), Wrong> {
    for (position, name) in names.iter().enumerate() {
        let field = format!("trees[{position}].name");
        let word = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if !word {
            let why = format!(
                "{name:?} is not a name: up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit"
            );
            return Err((field, why));
        }
        if let Some(other) = names[..position].iter().position(|other| other == name) {
            return Err((
                field,
                format!("{name} is also the name of trees[{other}]: give each tree a name of its own"),
            ));
        }
    }
    Ok(())
}

/// The trees that a tree needs: those of `after`, and those that its rules copy from.
fn needs(position: usize, tree: &shape::Tree, names: &[String]) -> Result<BTreeSet<usize>, Wrong> {
    let known = |field: String, name: &str| match names.iter().position(|other| other == name) {
        Some(at) => Ok(at),
        None => Err((field, format!("there is no tree {name}: the trees are {}", names.join(", ")))),
    };
    let mut needs = BTreeSet::new();
    for (number, name) in tree.after.iter().enumerate() {
        needs.insert(known(format!("trees[{position}].after[{number}]"), name)?);
    }
    for (number, rule) in tree.copy.iter().enumerate() {
        if let Some(name) = &rule.tree {
            let at = known(format!("trees[{position}].copy[{number}].tree"), name)?;
            // A tree that names itself has its own files.
            needs.extend((at != position).then_some(at));
        }
    }
    Ok(needs)
}

fn tree(position: usize, shape: shape::Tree) -> Result<Tree, Wrong> {
    let field = |name: &str| format!("trees[{position}].{name}");
    let place = place(&shape).map_err(|(name, why)| {
        if name.is_empty() { (format!("trees[{position}]"), why) } else { (field(name), why) }
    })?;
    if let Some(directory) = &shape.inside {
        inside(directory, false).map_err(|why| (field("inside"), why))?;
    }
    if shape.kind == Kind::Headers && !shape.firmware.is_empty() {
        let why = "a tree of headers brings no firmware: make it a tree of kind firmware, or give the rule to the tree that has the files";
        return Err((field("firmware"), why.to_owned()));
    }
    let copy = shape.copy.into_iter().map(|rule| (rule.tree.unwrap_or_else(|| shape.name.clone()), rule.from, rule.to));
    let copy = rules(&field("copy"), copy)?;
    let firmware = shape.firmware.into_iter().map(|rule| (shape.name.clone(), rule.from, rule.to));
    let firmware = rules(&field("firmware"), firmware)?;
    Ok(Tree { name: shape.name, kind: shape.kind, place, inside: shape.inside, copy, firmware, position })
}

fn rules(field: &str, all: impl ExactSizeIterator<Item = (String, String, String)>) -> Result<Vec<Rule>, Wrong> {
    if all.len() > MAX_RULES {
        return Err((
            field.to_owned(),
            format!("there may be up to {MAX_RULES} rules: copy whole directories, or use globs"),
        ));
    }
    let rule = |(number, (tree, from, to)): (usize, (String, String, String))| {
        inside(&from, true).map_err(|why| (format!("{field}[{number}].from"), why))?;
        inside(&to, false).map_err(|why| (format!("{field}[{number}].to"), why))?;
        Ok(Rule { tree, from, to })
    };
    all.enumerate().map(rule).collect()
}

/// Checks a path that a script gets, relative to a tree or to the firmware directory.
///
/// # Errors
/// Why it is none: it is absolute, leads out by `..`, or has a character that is not allowed.
pub fn path_inside(path: &str) -> Result<(), String> {
    inside(path, false)
}

/// Whether a text is a path below a tree, or a glob of such.
fn inside(path: &str, glob: bool) -> Result<(), String> {
    let what = if glob { "a glob" } else { "a path" };
    if path.is_empty() {
        return Err(format!("it is empty: give {what} inside the tree, such as include/"));
    }
    if path.starts_with('/') {
        return Err(format!("{path} begins with /: give {what} inside the tree, without the / at its beginning"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("{path} leads out of the tree by ..: give {what} inside the tree"));
    }
    if let Some(why) = unknown_word(path) {
        return Err(why);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._/+@,=~-".contains(c) || (glob && "*?[]!".contains(c));
    match path.chars().find(|c| !allowed(*c)) {
        None => Ok(()),
        Some(c) => Err(format!(
            "{path:?} has the character {c:?}: letters, digits and . _ / + @ , = ~ - are allowed{}",
            if glob { ", and * ? [ ] ! for what matches" } else { "; a glob belongs into `from`" }
        )),
    }
}

type WrongPart = (&'static str, String);

fn place(tree: &shape::Tree) -> Result<Place, WrongPart> {
    let places = [("directory", &tree.directory), ("archive", &tree.archive), ("git", &tree.git)];
    let given: Vec<&str> = places.iter().filter(|(_, place)| place.is_some()).map(|(name, _)| *name).collect();
    match given[..] {
        [_] => {}
        [] => return Err(("", format!("tree {} needs one of directory, archive, and git with ref", tree.name))),
        [one, other] => return Err(("", format!("{one} and {other} are both set: keep one"))),
        _ => return Err(("", format!("{} are all set: keep one", given.join(", ")))),
    }
    if let Some(sum) = tree.sha256.as_ref().filter(|sum| !is_hex(sum, 64)) {
        return Err(("sha256", format!("{sum:?} is not a SHA-256: 64 hexadecimal digits, as sha256sum prints them")));
    }
    let sha256 = tree.sha256.as_ref().map(|sum| sum.to_ascii_lowercase());
    if sha256.is_some() && tree.archive.is_none() {
        return Err(("sha256", "only an archive has a checksum: leave it out, or give archive".to_owned()));
    }
    if tree.reference.is_some() && tree.git.is_none() {
        return Err(("ref", "ref belongs to git, which is not there".to_owned()));
    }
    match (&tree.directory, &tree.archive, &tree.git) {
        (Some(path), _, _) => Ok(Place::Path { field: "directory", path: plain("directory", path)?, sha256 }),
        (_, Some(archive), _) => match archive.split_once("://") {
            None => Ok(Place::Path { field: "archive", path: plain("archive", archive)?, sha256 }),
            Some(("https", _)) => Ok(Place::Archive { url: plain("archive", archive)?, sha256 }),
            Some(("http", _)) if sha256.is_some() => Ok(Place::Archive { url: plain("archive", archive)?, sha256 }),
            Some(("http", _)) => {
                Err(("archive", format!("{archive} can be changed on its way: use https, or give sha256 with it")))
            }
            Some(_) => Err(("archive", format!("{archive} cannot be downloaded: http and https URLs can"))),
        },
        (_, _, Some(url)) => {
            let url = plain("git", url)?;
            let Some(reference) = tree.reference.clone() else {
                return Err(("ref", "is missing: name a branch, a tag or a commit of git".to_owned()));
            };
            if let Some(why) = unknown_word(&reference) {
                return Err(("ref", why));
            }
            let word = reference.starts_with(|c: char| c.is_ascii_alphanumeric())
                && reference.chars().all(|c| c.is_ascii_alphanumeric() || "._/+-".contains(c));
            if !word {
                return Err(("ref", format!("{reference:?} is not a branch, a tag or a commit: git needs one")));
            }
            if (url.starts_with("http://") || url.starts_with("git://")) && !is_hex(&reference, 40) {
                let why = format!(
                    "what comes from {url} can be changed on its way: use https or ssh, or name a commit by its 40 digits"
                );
                return Err(("ref", why));
            }
            Ok(Place::Git { url, reference })
        }
        (None, None, None) => Err(("", "a tree needs a place".to_owned())),
    }
}

/// A location without what would be something else for a shell, for git or for a Containerfile.
fn plain(field: &'static str, text: &str) -> Result<String, WrongPart> {
    if let Some(why) = unknown_word(text) {
        return Err((field, why));
    }
    let wrong = text.is_empty()
        || text.starts_with('-')
        || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '<');
    if wrong {
        return Err((field, format!("{text:?} is no place: give a path or a URL without spaces")));
    }
    Ok(text.to_owned())
}

/// What is said of a text with `{release}`, `$VERSION` or `${VERSION}`, which would stay in it.
fn unknown_word(text: &str) -> Option<String> {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let in_braces = text.match_indices('{').find_map(|(at, _)| {
        let end = at + text[at..].find('}')?;
        let begin = if text[..at].ends_with('$') { at - 1 } else { at };
        is_word(&text[at + 1..end]).then(|| &text[begin..=end])
    });
    let bare = || {
        text.match_indices('$').find_map(|(at, _)| {
            let rest = &text[at + 1..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (end > 0).then(|| &text[at..=at + end])
        })
    };
    in_braces.or_else(bare).map(|word| format!("unknown {word}: only {{version}} is replaced"))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit())
}
