//! The operator's own workload: its Deployment and what belongs to it.

mod deployment;
mod disruption;

use std::collections::BTreeMap;

use cxi_api::names::OPERATOR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

pub use deployment::{APPLY_AGENT_POLICY, ARCHITECTURES, CONTAINER, deployment, pod_template};
pub use disruption::disruption_budget;

use crate::rights::NAMESPACE;

/// Port of `/healthz`, `/readyz` and `/metrics`: that of the flag `--listen`.
pub const PORT: i32 = 8080;

/// Name of [`PORT`].
pub const PORT_NAME: &str = "metrics";

/// The images that the operator's Deployment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// That of the operator itself.
    pub operator: String,
    /// Those of operands: the environment variable by which the operator learns of each, and the image.
    pub operands: Vec<(&'static str, String)>,
}

/// Labels that only the operator's pods have.
pub fn selector() -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", OPERATOR), ("app.kubernetes.io/component", "operator")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

pub(crate) fn label_selector() -> LabelSelector {
    LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() }
}

/// Labels of objects and pods.
fn labels() -> BTreeMap<String, String> {
    let mut labels = selector();
    labels.insert("app.kubernetes.io/part-of".to_owned(), OPERATOR.to_owned());
    labels
}

pub(crate) fn metadata() -> ObjectMeta {
    ObjectMeta {
        name: Some(OPERATOR.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}
