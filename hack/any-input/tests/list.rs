//! The list of parsers in docs/how-it-is-tested.md is that of the sources.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that read what a node, its kubelet or a driver image has.
const CRATES: [&str; 6] = ["hardware", "agent", "injection", "device-plugin", "api", "driver-images/format"];

/// Of those, the ones in which a type that can be read from text is the text of a node.
const OF_NODES: [&str; 4] = ["hardware", "agent", "injection", "device-plugin"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files of a crate that hold `needle`, as paths from the root.
fn holding(directory: &Path, needle: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let entry = entry.unwrap();
        let path = directory.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            holding(&path, needle, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && fs::read_to_string(entry.path()).unwrap().contains(needle)
        {
            found.insert(path.display().to_string());
        }
    }
}

fn files(crates: &[&str], needle: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in crates {
        holding(&Path::new(name).join("src"), needle, &mut found);
    }
    found
}

#[test]
fn every_parser_is_listed_and_every_one_listed_gets_any_input() {
    let page = fs::read_to_string(root().join("docs/how-it-is-tested.md")).unwrap();
    let (_, section) = page.split_once("\n## Parsers\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1)?.split('`').nth(1));
    let listed: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(listed, files(&CRATES, "cxi_any_input::"));
    let parsers = files(&OF_NODES, "impl FromStr for");
    assert!(parsers.is_subset(&listed), "no test with any input in {:?}", parsers.difference(&listed));
}
