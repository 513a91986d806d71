//! What is said about a bundle: its annotations, dependencies, tests and image.

use std::{collections::BTreeMap, fmt::Write as _};

use cxi_api::kmm::Module;
use kube::Resource as _;
use serde_json::{Value, json};

use super::{CHANNEL, Flavour, PACKAGE};
use crate::yaml;

/// The oldest OpenShift: 4.20 is Kubernetes 1.33.
const OPENSHIFT: &str = "v4.20";

/// Where operator-sdk's scorecard has its tests.
const SCORECARD: &str = "quay.io/operator-framework/scorecard-test:v1.42.0";

/// Its tests of bundles.
const SCORECARD_OLM: [&str; 5] = [
    "olm-bundle-validation",
    "olm-crds-have-validation",
    "olm-crds-have-resources",
    "olm-spec-descriptors",
    "olm-status-descriptors",
];

/// Annotations of the bundle, which are labels of its image too.
const ANNOTATIONS: [(&str, &str); 9] = [
    ("com.redhat.openshift.versions", OPENSHIFT),
    ("operators.operatorframework.io.bundle.channel.default.v1", CHANNEL),
    ("operators.operatorframework.io.bundle.channels.v1", CHANNEL),
    ("operators.operatorframework.io.bundle.manifests.v1", "manifests/"),
    ("operators.operatorframework.io.bundle.mediatype.v1", "registry+v1"),
    ("operators.operatorframework.io.bundle.metadata.v1", "metadata/"),
    ("operators.operatorframework.io.bundle.package.v1", PACKAGE),
    ("operators.operatorframework.io.test.config.v1", "tests/scorecard/"),
    ("operators.operatorframework.io.test.mediatype.v1", "scorecard+v1"),
];

/// `metadata/annotations.yaml`.
pub fn annotations() -> Value {
    json!({ "annotations": ANNOTATIONS.into_iter().collect::<BTreeMap<_, _>>() })
}

/// `metadata/dependencies.yaml`: KMM by its kind, whatever the package is called and whichever version it has.
pub fn dependencies(flavour: Flavour) -> Option<Value> {
    let module = json!({ "group": Module::group(&()), "kind": Module::kind(&()), "version": Module::version(&()) });
    (flavour == Flavour::V0).then(|| json!({ "dependencies": [{ "type": "olm.gvk", "value": module }] }))
}

/// `tests/scorecard/config.yaml`.
pub fn scorecard() -> Value {
    let test = |suite: &str, test: &str| {
        json!({
            "entrypoint": ["scorecard-test", test],
            "image": SCORECARD,
            "labels": { "suite": suite, "test": format!("{test}-test") },
            "storage": { "spec": { "mountPath": {} } },
        })
    };
    let mut tests = vec![test("basic", "basic-check-spec")];
    tests.extend(SCORECARD_OLM.map(|name| test("olm", name)));
    json!({
        "apiVersion": "scorecard.operatorframework.io/v1alpha3",
        "kind": "Configuration",
        "metadata": { "name": "config" },
        "stages": [{ "parallel": true, "tests": tests }],
        "storage": { "spec": { "mountPath": {} } },
    })
}

/// `bundle.Dockerfile`.
pub fn dockerfile() -> String {
    let mut text = String::from("FROM scratch\n\n");
    for (key, value) in ANNOTATIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "LABEL {key}={value}");
    }
    text.push_str("\nCOPY bundle/manifests /manifests/\nCOPY bundle/metadata /metadata/\nCOPY bundle/tests/scorecard /tests/scorecard/\n");
    yaml::generated(&text)
}
