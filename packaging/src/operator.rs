//! The operator's own workload: its Deployment and what belongs to it.

mod deployment;
mod disruption;
mod network;

use std::collections::BTreeMap;

use cxi_api::names::OPERATOR;
use cxi_operator::rbac::NAMESPACE;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

pub use deployment::{APPLY_AGENT_POLICY, ARCHITECTURES, CONTAINER, deployment, pod_template, variable};
pub use disruption::disruption_budget;
pub use network::{API_SERVER_PORTS, METRICS_LABEL, MONITORING, exporter_network_policy, network_policy};

/// Port of `/healthz`, `/readyz` and `/metrics`: that of the flag `--listen`.
pub const PORT: i32 = 8080;

/// Name of [`PORT`].
pub const PORT_NAME: &str = "metrics";

/// Labels that only the operator's pods have.
pub fn selector() -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", OPERATOR), ("app.kubernetes.io/component", "operator")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn label_selector() -> LabelSelector {
    LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() }
}

/// Labels of objects and pods.
fn labels() -> BTreeMap<String, String> {
    let mut labels = selector();
    labels.insert("app.kubernetes.io/part-of".to_owned(), OPERATOR.to_owned());
    labels
}

fn metadata() -> ObjectMeta {
    ObjectMeta {
        name: Some(OPERATOR.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}
