//! Kustomizations: one per directory of `deploy/`, a base of all, and overlays.

use std::fmt::Write as _;

use cxi_api::names::OPERATOR;
use cxi_images::Image;
use cxi_manifests::{operator::CONTAINER, rights::NAMESPACE};
use serde_json::{Value, json};

use crate::{
    install::{Manifest, Part},
    yaml::{self, Error},
};

const API: &str = "kustomize.config.k8s.io/v1beta1";

/// Where the example of a mirror is.
const MIRROR: &str = "registry.example.com/mirror";

/// Path below `deploy/` and text of every kustomization.
///
/// # Errors
/// When one cannot be written.
pub fn files(manifests: &[Manifest]) -> Result<Vec<(String, String)>, Error> {
    let mut files = Vec::new();
    for part in Part::ALL {
        let listed = manifests.iter().filter(|manifest| manifest.part == part && manifest.everywhere);
        let resources: Vec<_> = listed.map(|manifest| manifest.name.clone()).collect();
        let text = yaml::documents(&[kustomization(&json!({ "resources": resources }))])?;
        // Under this name `kubectl apply -f` of the directory passes it over.
        files.push((format!("{}/Kustomization", part.directory()), text));
    }
    let parts = Part::ALL.map(|part| format!("../../{}", part.directory()));
    files.push(("kustomize/base/kustomization.yaml".into(), yaml::documents(&[base(&parts)])?));
    files.push(("kustomize/overlays/default/kustomization.yaml".into(), commented(DEFAULT, &overlay(&json!({})))?));
    files.push(("kustomize/overlays/openshift/kustomization.yaml".into(), openshift()?));
    files.push(("kustomize/overlays/openshift/rights.yaml".into(), rights(manifests)?));
    files.push(("kustomize/overlays/airgap/kustomization.yaml".into(), commented(AIRGAP, &airgap())?));
    files.push(("kustomize/overlays/airgap/mirror.yaml".into(), commented(MIRROR_FILE, &mirror())?));
    Ok(files)
}

const DEFAULT: &str = "The whole operator. For another namespace change `namespace` below, nothing else.";

const OPENSHIFT: &str = "The whole operator for OpenShift: its operands may use devices and files of the host.";

const AIRGAP: &str = "The whole operator with images from a mirror, which mirror.yaml names. If the mirror asks for credentials, make\n\
                      # the Secret cxi-mirror (type kubernetes.io/dockerconfigjson) in the namespace.";

const MIRROR_FILE: &str = "Where images are pulled from instead of ghcr.io. The object itself is not installed.";

fn commented(comment: &str, object: &Value) -> Result<String, Error> {
    let mut text = format!("# {comment}\n");
    // Writing to a String cannot fail.
    let _ = write!(text, "{}", yaml::document(object)?);
    Ok(yaml::generated(&text))
}

fn kustomization(fields: &Value) -> Value {
    let mut all = json!({ "apiVersion": API, "kind": "Kustomization" });
    merge(&mut all, fields);
    all
}

/// Puts the fields of `from` into `into`; lists are joined.
fn merge(into: &mut Value, from: &Value) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else { return };
    for (key, value) in from {
        match (into.get_mut(key).and_then(Value::as_array_mut), value.as_array()) {
            (Some(present), Some(more)) => present.extend(more.iter().cloned()),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

fn base(parts: &[String]) -> Value {
    kustomization(&json!({ "resources": parts }))
}

/// An overlay: the namespace and `more`. Nothing else names the namespace, so that overlays of others on top of this one may
/// set another.
fn overlay(more: &Value) -> Value {
    let mut all = kustomization(&json!({ "resources": ["../../base"], "namespace": NAMESPACE }));
    merge(&mut all, more);
    all
}

fn openshift() -> Result<String, Error> {
    // Otherwise OpenShift sets the Pod Security labels of the namespace by what its accounts may do.
    let patch = json!([{
        "op": "add",
        "path": "/metadata/labels/security.openshift.io~1scc.podSecurityLabelSync",
        "value": "false",
    }]);
    let more = json!({
        "resources": ["rights.yaml"],
        "patches": [{ "target": { "kind": "Namespace" }, "patch": yaml::document(&patch)? }],
    });
    commented(OPENSHIFT, &overlay(&more))
}

/// A copy of what `rbac/openshift.yaml` has: kustomize reads no file outside an overlay's directory.
fn rights(manifests: &[Manifest]) -> Result<String, Error> {
    let objects: Vec<_> = manifests
        .iter()
        .filter(|manifest| manifest.part == Part::Rbac && manifest.name == "openshift.yaml")
        .flat_map(|manifest| manifest.objects.clone())
        .collect();
    yaml::documents(&objects)
}

fn airgap() -> Value {
    let container = format!("spec.template.spec.containers.[name={CONTAINER}]");
    let variable = |name: &str| format!("{container}.env.[name={name}].value");
    // The first part of a reference is the registry: the part up to the first slash.
    let variables = Image::ALL.into_iter().filter_map(Image::variable).map(variable);
    let paths: Vec<_> = std::iter::once(format!("{container}.image")).chain(variables).collect();
    overlay(&json!({
        "resources": ["mirror.yaml"],
        "replacements": [{
            "source": { "kind": "ConfigMap", "name": "mirror", "fieldPath": "data.registry" },
            "targets": [{
                "select": { "kind": "Deployment", "name": OPERATOR },
                "fieldPaths": paths,
                "options": { "delimiter": "/", "index": 0 },
            }],
        }],
        "patches": [{
            "target": { "kind": "ServiceAccount" },
            "patch": "- op: add\n  path: /imagePullSecrets\n  value:\n  - name: cxi-mirror\n",
        }],
    }))
}

fn mirror() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "mirror", "annotations": { "config.kubernetes.io/local-config": "true" } },
        "data": { "registry": MIRROR },
    })
}
