//! The ClusterServiceVersion.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cxi_api::{crds::crds, names::OPERATOR};
use cxi_images::Image;
use cxi_manifests::{
    environment::variable,
    operator::{self, APPLY_AGENT_POLICY},
    rights::{self, NAMESPACE},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

use super::{Error, Release, descriptors};
use crate::{
    release::{is_pinned, named},
    yaml::value,
};

const BASE: &str = include_str!("../../../olm/csv.base.yaml");
const DESCRIPTION: &str = include_str!("../../../olm/description.md");
const ICON: &str = include_str!("../../../olm/icon.svg");

/// An example of every kind, the one that people write first.
const EXAMPLES: [(&str, &str); 4] = [
    ("examples/cxidriver.yaml", include_str!("../../../olm/examples/cxidriver.yaml")),
    ("examples/cxipreflight.yaml", include_str!("../../../olm/examples/cxipreflight.yaml")),
    ("examples/cxinode.yaml", include_str!("../../../olm/examples/cxinode.yaml")),
    ("examples/cxidevice.yaml", include_str!("../../../olm/examples/cxidevice.yaml")),
];

/// Kinds that people do not make.
const INTERNAL: [&str; 2] = ["cxinodes.cxi.hpe.com", "cxidevices.cxi.hpe.com"];

/// The ClusterServiceVersion.
///
/// # Errors
/// When an authored text cannot be understood.
pub fn csv(release: &Release<'_>) -> Result<Value, Error> {
    let mut base: Value = serde_saphyr::from_str(BASE).map_err(|error| Error::Source("csv.base.yaml", error.into()))?;
    let (mut metadata, mut spec) = (object(base["metadata"].take()), object(base["spec"].take()));
    let mut annotations = object(metadata.remove("annotations").unwrap_or_default());
    annotations.extend(self::annotations(release)?);
    metadata.insert("annotations".into(), annotations.into());
    metadata.insert("name".into(), release.name().into());
    metadata.insert("labels".into(), labels());
    spec.extend(object(json!({
        "version": release.version,
        "description": DESCRIPTION,
        "icon": [{ "base64data": STANDARD.encode(ICON), "mediatype": "image/svg+xml" }],
        "installModes": install_modes(),
        "install": { "strategy": "deployment", "spec": install(release)? },
        "customresourcedefinitions": { "owned": crds().iter().map(owned).collect::<Vec<_>>() },
        "relatedImages": related_images(release),
        "cleanup": { "enabled": false },
    })));
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": metadata,
        "spec": spec,
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn annotations(release: &Release<'_>) -> Result<Map<String, Value>, Error> {
    // The namespace is part of the package: bindings in a bundle name it.
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": value(&rights::namespace())?["metadata"]["labels"],
            "annotations": { "openshift.io/node-selector": "" },
        },
    });
    let internal = json!(INTERNAL);
    Ok(object(json!({
        "alm-examples": pretty(&Value::Array(examples()?)),
        "containerImage": release.images.entry(Image::Operator).reference(),
        "features.operators.openshift.io/disconnected": is_pinned(release.images).to_string(),
        "operatorframework.io/suggested-namespace": NAMESPACE,
        "operatorframework.io/suggested-namespace-template": namespace.to_string(),
        "operators.operatorframework.io/internal-objects": internal.to_string(),
    })))
}

fn pretty(value: &Value) -> String {
    // A JSON value can always be written.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Examples of every kind.
///
/// # Errors
/// When one cannot be understood.
pub fn examples() -> Result<Vec<Value>, Error> {
    EXAMPLES
        .iter()
        .map(|(name, text)| serde_saphyr::from_str(text).map_err(|error| Error::Source(name, error.into())))
        .collect()
}

fn labels() -> Value {
    let mut labels = json!({ "operatorframework.io/os.linux": "supported" });
    for architecture in operator::ARCHITECTURES {
        labels[format!("operatorframework.io/arch.{architecture}")] = "supported".into();
    }
    labels
}

/// Nodes belong to the whole cluster.
fn install_modes() -> Value {
    ["OwnNamespace", "SingleNamespace", "MultiNamespace", "AllNamespaces"]
        .map(|mode| json!({ "type": mode, "supported": mode == "AllNamespaces" }))
        .to_vec()
        .into()
}

/// The Deployment, and what the operator may do in the whole cluster. What it may do in its own namespace is a Role of the
/// bundle ([`super::manifests`]): OLM turns namespaced permissions of a ClusterServiceVersion into rights in all namespaces
/// (`ensureSingletonRBAC`), and who may create pods everywhere is master of the cluster.
fn install(release: &Release<'_>) -> Result<Value, Error> {
    let mut deployment = operator::deployment(&named(release.images));
    let spec = deployment.spec.get_or_insert_default();
    for container in spec.template.spec.iter_mut().flat_map(|pod| &mut pod.containers) {
        container.env.get_or_insert_default().push(variable(APPLY_AGENT_POLICY, "true"));
    }
    let rules = [rights::OPERATOR_CLUSTER, rights::OPERATOR_OLM].concat();
    Ok(json!({
        "clusterPermissions": [{ "serviceAccountName": OPERATOR, "rules": value(&rights::policy_rules(&rules))? }],
        "deployments": [{
            "name": OPERATOR,
            "label": value(&deployment.metadata.labels)?,
            "spec": value(&deployment.spec)?,
        }],
    }))
}

fn owned(crd: &CustomResourceDefinition) -> Value {
    let names = &crd.spec.names;
    let version = crd.spec.versions.first();
    let schema = version.and_then(|v| v.schema.as_ref()?.open_api_v3_schema.as_ref());
    let mut owned = json!({
        "name": crd.metadata.name,
        "kind": names.kind,
        "version": version.map(|v| &v.name),
        "displayName": names.kind,
        "description": schema.and_then(|schema| schema.description.as_ref()),
        "resources": resources(&names.kind),
    });
    for (key, descriptors) in
        [("specDescriptors", descriptors::spec(crd)), ("statusDescriptors", descriptors::status(crd))]
    {
        if !descriptors.is_empty() {
            owned[key] = descriptors.into();
        }
    }
    owned
}

/// What stands behind an object of a kind.
fn resources(kind: &str) -> Value {
    let resource = |kind: &str, version: &str| json!({ "kind": kind, "name": "", "version": version });
    match kind {
        "CXIDriver" => json!([
            resource("CXINode", "v1"),
            resource("DaemonSet", "v1"),
            resource("Module", "v1beta1"),
            resource("Pod", "v1"),
        ]),
        "CXIPreflight" => json!([
            resource("CXINode", "v1"),
            resource("Module", "v1beta1"),
            resource("ModuleImagesConfig", "v1beta1"),
            resource("Pod", "v1"),
        ]),
        _ => json!([resource("Node", "v1")]),
    }
}

fn related_images(release: &Release<'_>) -> Value {
    let entries = release.images.entries();
    entries.map(|(image, entry)| json!({ "name": image.name(), "image": entry.reference() })).collect()
}
