//! The objects of a bundle beside the ClusterServiceVersion.
//!
//! OLM puts namespaced objects into the namespace of the package, but leaves the subjects of bindings as they are: they name
//! [`NAMESPACE`], which the package is therefore tied to. What OLM does not carry: the namespace itself (the console makes it as
//! the ClusterServiceVersion suggests), admission policies (the operator applies the one that keeps agents to their nodes), and
//! the NetworkPolicy, which the community's pipeline refuses.

use cxi_api::{crds::crds, names::OPERATOR};
use cxi_manifests::{operands, operator, rights};
use serde_json::Value;

use crate::yaml::{Error, value};

/// Name of the file and object, in the order of their names. One object per file: OLM reads no more.
///
/// # Errors
/// When one cannot be written.
pub fn manifests() -> Result<Vec<(String, Value)>, Error> {
    let mut objects = Vec::new();
    for crd in crds() {
        objects.push(value(&crd)?);
    }
    // That of the operator is OLM's to make.
    for account in rights::accounts_on_nodes() {
        objects.push(value(&rights::account(account))?);
    }
    for (account, rules) in operands::rights() {
        let (role, binding) = rights::cluster_role(account, rules);
        objects.extend([value(&role)?, value(&binding)?]);
    }
    for (role, binding) in [rights::role(OPERATOR, rights::OPERATOR_NAMESPACED), rights::openshift()] {
        objects.extend([value(&role)?, value(&binding)?]);
    }
    objects.push(value(&operator::disruption_budget())?);
    Ok(objects.into_iter().map(named).collect())
}

fn named(mut object: Value) -> (String, Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, kind) = (text(&object["metadata"]["name"]), text(&object["kind"]).to_lowercase());
    let file = if kind == "customresourcedefinition" { format!("{name}.yaml") } else { format!("{name}.{kind}.yaml") };
    (file, object)
}
