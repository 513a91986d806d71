//! The layout that images are built by, from its `ConfigMap`. It is read once for each revision, when the Containerfile is made.

use std::collections::BTreeMap;

use cxi_api::layout::LayoutReference;
use cxi_driver_image_format::Layout;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Resource;
use serde::Deserialize;

use crate::act::{Error, Parts};

impl Parts {
    /// Reads a layout.
    pub(super) async fn layout(&self, reference: &LayoutReference, version: &str) -> Result<Layout, Error> {
        let namespace = &self.identity.namespace;
        let found = self.listed(ConfigMap::url_path(&(), Some(namespace)), &reference.name).await?;
        layout_in(found, reference, namespace, version).map_err(Error::Layout)
    }
}

/// What counts of a `ConfigMap`.
#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    immutable: bool,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// The layout in a `ConfigMap`, or why there is none.
fn layout_in(
    found: Option<Found>,
    reference: &LayoutReference,
    namespace: &str,
    version: &str,
) -> Result<Layout, String> {
    let LayoutReference { name, key } = reference;
    let Some(found) = found else {
        return Err(format!(
            "source.dkms.layout: there is no ConfigMap {name} in namespace {namespace}: create it, with `immutable: true` and the \
             layout in key {key}"
        ));
    };
    if !found.immutable {
        return Err(format!(
            "source.dkms.layout: ConfigMap {name} can be changed, and what nodes run would not say by which of its texts it was \
             built: set `immutable: true` in it, and give another layout another name"
        ));
    }
    let Some(text) = found.data.get(key) else {
        let keys: Vec<&str> = found.data.keys().map(String::as_str).collect();
        return Err(format!(
            "source.dkms.layout: ConfigMap {name} has no key {key}; it has {}: name one of them in source.dkms.layout.key",
            if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
        ));
    };
    Layout::parse_for_cluster(text, &format!("ConfigMap {name}"), version).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GOOD: &str = "trees: [{name: driver, kind: module, git: 'https://x/driver', ref: 'v{version}'}]";

    fn read(found: Option<Found>) -> Result<Layout, String> {
        let reference = LayoutReference { name: "stack".to_owned(), key: "layout.yaml".to_owned() };
        layout_in(found, &reference, "cxi-operator", "13.0.0")
    }

    fn map(immutable: bool, key: &str, text: &str) -> Found {
        let json = serde_json::json!({ "immutable": immutable, "data": { key: text } });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_layout_is_that_of_the_release() {
        let layout = read(Some(map(true, "layout.yaml", GOOD))).unwrap();
        assert!(format!("{:?}", layout.trees[0].place).contains("v13.0.0"));
    }

    #[rstest]
    #[case(None, "there is no ConfigMap stack in namespace cxi-operator: create it")]
    #[case(Some(map(false, "layout.yaml", GOOD)), "set `immutable: true` in it")]
    #[case(Some(map(true, "layout.yml", GOOD)), "has no key layout.yaml; it has layout.yml")]
    #[case(Some(map(true, "layout.yaml", "trees: []")), "ConfigMap stack: trees: there must be")]
    #[case(
        Some(map(true, "layout.yaml", "trees: [{name: a, kind: module, directory: a}]")),
        "ConfigMap stack: trees[0]: a build in the cluster has no file"
    )]
    fn what_cannot_be_used_says_why(#[case] found: Option<Found>, #[case] says: &str) {
        let said = read(found).unwrap_err();
        assert!(said.contains(says), "{said}");
    }
}
