//! Today's CRDs against those of the last release, by the rules of OLM v1's check of CRD upgrades (`crdify`), which are stricter than
//! what an API server needs: who breaks them cannot be upgraded there at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod safety;

use std::{collections::BTreeMap, fs, path::PathBuf, sync::LazyLock};

use safety::breaks;
use serde_json::{Value, json};

type Crds = BTreeMap<String, Value>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn crds(directory: &str) -> Crds {
    let entries = fs::read_dir(root().join(directory)).unwrap_or_else(|error| panic!("{directory}: {error}"));
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    files
        .map(|path| {
            let crd: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            (crd["metadata"]["name"].as_str().unwrap().to_owned(), crd)
        })
        .collect()
}

/// Versions that the changelog calls released, newest first: headings such as `## 1.2.3`.
fn released(changelog: &str) -> Vec<String> {
    let headings = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    let versions = headings.map(|heading| heading.trim_start_matches(['v', '[']));
    let numbered = versions.filter(|version| version.starts_with(|first: char| first.is_ascii_digit()));
    numbered.map(|version| version.chars().take_while(|c| !" ])".contains(*c)).collect()).collect()
}

#[test]
fn every_change_since_the_last_release_can_be_upgraded_to() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let Some(last) = released(&changelog).into_iter().next() else {
        // Nobody can upgrade from anything; then no CRDs may be there that claim to be released.
        let kept = fs::read_dir(root().join("packaging/released")).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(kept.filter(|path| path.is_dir()).collect::<Vec<_>>(), Vec::<PathBuf>::new());
        return;
    };
    let (before, now) = (crds(&format!("packaging/released/{last}")), crds("deploy/crds"));
    assert!(!before.is_empty(), "packaging/released/{last} is empty");
    let mut broken = Vec::new();
    for (name, old) in &before {
        match now.get(name) {
            Some(new) => broken.extend(breaks(old, new)),
            None => broken.push(format!("{name} is gone")),
        }
    }
    assert_eq!(broken, Vec::<String>::new(), "since {last}");
}

#[test]
fn the_changelog_says_what_is_released() {
    let text = "# Changelog\n\n## Unreleased\n\n### Added\n\n## [1.2.3] - 2027-01-01\n\n## v1.0.0 (2026-12-01)\n";
    assert_eq!(released(text), ["1.2.3", "1.0.0"]);
    assert!(released("## Unreleased\n").is_empty());
}

#[test]
fn nothing_breaks_what_is_not_changed() {
    for crd in crds("deploy/crds").values() {
        assert_eq!(breaks(crd, crd), Vec::<String>::new());
    }
}

/// Today's CXIDriver, and the same after a change at a place in its schema.
fn changed(pointer: &str, change: impl Fn(&mut Value)) -> Vec<String> {
    static TODAY: LazyLock<Crds> = LazyLock::new(|| crds("deploy/crds"));
    let old = TODAY["cxidrivers.cxi.hpe.com"].clone();
    let mut new = old.clone();
    change(new.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")));
    breaks(&old, &new)
}

const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";

#[test]
fn optional_fields_may_be_added_and_texts_changed() {
    let added = changed(SPEC, |spec| {
        spec["properties"]["novel"] =
            json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": "string" } } });
        spec["description"] = json!("says it better");
        spec["properties"]["version"]["maxLength"] = json!(200);
    });
    assert_eq!(added, Vec::<String>::new());
}

/// A change at a place of a schema.
type Change = fn(&mut Value);

#[test]
fn whatever_refuses_what_was_accepted_is_found() {
    let at = |path: &str| format!("{SPEC}/properties/{path}");
    let cases: Vec<(&str, String, Change)> = vec![
        ("scope", "/spec".into(), |spec| spec["scope"] = json!("Namespaced")),
        ("stored version", "/spec/versions/0".into(), |version| version["name"] = json!("v2")),
        ("not served", "/spec/versions/0".into(), |version| version["served"] = json!(false)),
        ("removed", SPEC.into(), |spec| {
            spec["properties"].as_object_mut().unwrap().remove("nodeSelector");
        }),
        ("required", SPEC.into(), |spec| spec["required"].as_array_mut().unwrap().push(json!("source"))),
        ("type", at("version"), |field| field["type"] = json!("integer")),
        ("default", at("version"), |field| field["default"] = json!("1.0.0")),
        ("default", at("source"), |field| {
            field.as_object_mut().unwrap().remove("default");
        }),
        ("enum", at("version"), |field| field["enum"] = json!(["13.0.0"])),
        ("enum", at("updateStrategy/properties/drain/properties/policy"), |field| {
            field["enum"].as_array_mut().unwrap().pop();
        }),
        ("maxLength", at("version"), |field| field["maxLength"] = json!(10)),
        ("minLength", at("version"), |field| field["minLength"] = json!(5)),
        ("maximum", at("revisionHistoryLimit"), |field| field["maximum"] = json!(3)),
        ("minimum", at("revisionHistoryLimit"), |field| field["minimum"] = json!(3)),
        ("maxItems", at("tolerations"), |field| field["maxItems"] = json!(3)),
        ("type", at("tolerations/items/properties/key"), |field| field["type"] = json!("boolean")),
        ("pattern", at("version"), |field| field["pattern"] = json!("^13")),
    ];
    for (word, pointer, change) in cases {
        let found = changed(&pointer, change);
        assert!(found.iter().any(|said| said.contains(word)), "{word} at {pointer}: {found:?}");
    }
}
