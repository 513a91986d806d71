//! The bills of our own programs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cxi_sbom::{
    bill::{Part, bill, json},
    licences::licences,
    tree::Tree,
};
use cyclonedx_bom::prelude::{Bom, Validate};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROGRAMS: [&str; 3] = ["cxi-operator", "cxi-device-plugin", "cxi-agent"];

fn tree(package: &str) -> Tree {
    Tree::ask(package, &PROGRAMS.map(str::to_owned), TARGET).unwrap()
}

fn parts() -> [Part; 1] {
    [Part { name: "glibc".into(), version: "2.36".into(), licence: "LGPL-2.1-or-later" }]
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.packages().keys().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_bill_has_what_is_in_the_program_and_nothing_else() {
    let [operator, plugin, agent] = PROGRAMS.map(tree);
    for (tree, has, has_not) in [
        (&operator, ["cxi-rollout", "serde_path_to_error"], ["tonic", "cxi-hardware"]),
        (&plugin, ["cxi-hardware", "tonic"], ["cxi-rollout", "wildmatch"]),
        (&agent, ["cxi-hardware", "wildmatch"], ["cxi-rollout", "tonic"]),
    ] {
        let names = names(tree);
        for name in has.iter().chain(&["kube-client", "rustls", "ring", "libc"]) {
            assert!(names.contains(name), "{name} is missing in {:?}", tree.root());
        }
        // The last ones are needed for building and for testing only.
        for name in has_not.iter().chain(&["syn", "serde_derive", "cc", "protox", "rstest", "proptest"]) {
            assert!(!names.contains(name), "{name} is not in {:?}", tree.root());
        }
    }
}

#[test]
fn a_bill_is_valid_complete_and_the_same_each_time() {
    let tree = tree("cxi-agent");
    let text = json(bill(&tree, &parts(), "2026-01-02T03:04:05Z").unwrap()).unwrap();
    assert!(text == json(bill(&tree, &parts(), "2026-01-02T03:04:05Z").unwrap()).unwrap(), "it differs");
    let bom = Bom::parse_from_json_v1_5(text.as_slice()).unwrap();
    assert!(bom.validate().passed());
    let components = bom.components.unwrap().0;
    // All but the program itself, which is what the bill is about; and the C library.
    assert_eq!(components.len(), tree.packages().len() - 1 + 1);
    assert!(components.iter().all(|component| component.licenses.is_some()), "something has no licence");
    assert!(bill(&tree, &parts(), "yesterday").is_err());
}

#[test]
fn licences_have_their_texts() {
    let tree = tree("cxi-operator");
    let text = licences(&tree, &parts()).unwrap();
    for part in ["serde 1.", "Permission is hereby granted", "Apache License", "glibc 2.36: LGPL-2.1-or-later"] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn an_unknown_package_is_named() {
    let error = Tree::ask("cxi-nothing", &[], TARGET).unwrap_err();
    assert!(format!("{error:#}").contains("cxi-nothing"), "{error:#}");
}
