//! A PodDisruptionBudget.

use k8s_openapi::{api::policy::v1::PodDisruptionBudget, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde::Deserialize;

use super::{Kind, fields::or_default, typed};

/// What counts of a PodDisruptionBudget. One that cannot be read covers every pod of its namespace, and allows nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// `spec.selector`; without one the API server takes it for one that selects nothing.
    pub selector: Option<LabelSelector>,
    /// `spec.unhealthyPodEvictionPolicy` is `AlwaysAllow`.
    pub always_allow: bool,
    /// Whether the status speaks of the present spec (`status.observedGeneration`). One of an earlier spec allows nothing; the API
    /// server sees it the same way.
    pub is_current: bool,
    /// `status.disruptionsAllowed`.
    pub disruptions_allowed: i32,
    /// `status.currentHealthy`.
    pub current_healthy: i32,
    /// `status.desiredHealthy`.
    pub desired_healthy: i32,
    /// `status.expectedPods`.
    pub expected_pods: i32,
    /// Message of the condition `DisruptionAllowed` with the reason `SyncFailed`: why the disruption controller cannot compute the
    /// status.
    pub sync_failed: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Wire {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default, deserialize_with = "or_default")]
    generation: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    selector: Option<LabelSelector>,
    unhealthy_pod_eviction_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(deserialize_with = "or_default")]
    observed_generation: i64,
    #[serde(deserialize_with = "or_default")]
    disruptions_allowed: i32,
    #[serde(deserialize_with = "or_default")]
    current_healthy: i32,
    #[serde(deserialize_with = "or_default")]
    desired_healthy: i32,
    #[serde(deserialize_with = "or_default")]
    expected_pods: i32,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    message: String,
}

impl Kind for Budget {
    type Api = PodDisruptionBudget;
    type Remains = ();

    fn parse(json: &str) -> Result<Option<Self>, String> {
        let Wire { metadata, spec, status } = typed(json)?;
        let is_current = status.as_ref().is_some_and(|status| status.observed_generation >= metadata.generation);
        let status = status.unwrap_or_default();
        let failed = |one: &Condition| one.kind == "DisruptionAllowed" && one.reason == "SyncFailed";
        Ok(Some(Self {
            selector: spec.selector,
            always_allow: spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow"),
            is_current,
            disruptions_allowed: status.disruptions_allowed,
            current_healthy: status.current_healthy,
            desired_healthy: status.desired_healthy,
            expected_pods: status.expected_pods,
            sync_failed: status.conditions.into_iter().find(failed).map(|one| one.message.into()),
        }))
    }
}
