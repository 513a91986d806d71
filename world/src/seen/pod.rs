//! Any pod of the cluster, as far as it may hold a device.

use std::collections::BTreeMap;

use cxi_api::{
    Timestamp,
    names::{ROLE_LABEL, Role},
};
use cxi_rollout::world::PodHealth;
use k8s_openapi::api::core::v1;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Kind, Labels,
    fields::{count, ends, or_default},
    typed,
};

/// Time in seconds that the API server gives a pod that does not say how much it needs.
const DEFAULT_GRACE: u64 = 30;

/// A pod that has not ended and requests an extended resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Node that it is bound to.
    pub node: Option<Box<str>>,
    /// Labels.
    pub labels: Labels,
    /// Extended resources that it requests, each once, in order.
    pub resources: Box<[Box<str>]>,
    /// When it has to be gone (`metadata.deletionTimestamp`, to which the API server has added the grace period); absent while it is
    /// not being deleted.
    pub ends: Option<Timestamp>,
    /// Kind and name of its controller.
    pub controller: Option<(Box<str>, Box<str>)>,
    /// Whether it is the mirror of a static pod.
    pub is_static: bool,
    /// Whether a kubelet has accepted it.
    pub started: bool,
    /// How it is.
    pub health: PodHealth,
    /// Time that it is given to end, in seconds.
    pub grace: u64,
}

/// What counts of a pod that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRemains {
    /// Node that it is bound to.
    pub node: Option<Box<str>>,
}

/// Any pod, as a look at its node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnNode {
    /// What it is for, if it is labelled as one of ours.
    pub role: Option<Role>,
    /// The pod, if it has not ended and requests an extended resource.
    pub pod: Option<Pod>,
}

#[derive(Deserialize)]
struct Wire {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "or_default")]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    labels: Labels,
    #[serde(default, deserialize_with = "or_default")]
    annotations: Annotations,
    #[serde(default)]
    deletion_timestamp: Option<Value>,
    #[serde(default, deserialize_with = "or_default")]
    owner_references: Vec<Owner>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    /// Of the mirror of a static pod (kubelet `pkg/kubelet/types`).
    #[serde(default, rename = "kubernetes.io/config.mirror")]
    mirror: Option<Value>,
}

#[derive(Deserialize)]
struct Owner {
    kind: Box<str>,
    name: Box<str>,
    #[serde(default, deserialize_with = "or_default")]
    controller: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Option<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "or_default")]
    init_containers: Vec<Container>,
    termination_grace_period_seconds: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    #[serde(deserialize_with = "or_default")]
    resources: Resources,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resources {
    #[serde(deserialize_with = "or_default")]
    requests: BTreeMap<Box<str>, Value>,
    #[serde(deserialize_with = "or_default")]
    limits: BTreeMap<Box<str>, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    start_time: Option<Value>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rest {
    #[serde(deserialize_with = "super::fields::lenient")]
    spec: RestOfSpec,
    #[serde(deserialize_with = "super::fields::lenient")]
    status: RestOfStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RestOfSpec {
    #[serde(deserialize_with = "super::fields::lenient")]
    node_name: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RestOfStatus {
    #[serde(deserialize_with = "super::fields::lenient")]
    phase: Option<String>,
}

impl Kind for Pod {
    type Api = v1::Pod;
    type Remains = PodRemains;

    fn parse(json: &str) -> Result<Option<Self>, String> {
        Ok(OnNode::of(typed(json)?).pod)
    }

    /// Where it is. It may request anything.
    fn remains(json: &str) -> Option<PodRemains> {
        let (node, phase) = rest(json);
        (!has_ended(phase.as_deref())).then_some(PodRemains { node })
    }
}

impl Kind for OnNode {
    type Api = v1::Pod;
    type Remains = ();

    fn parse(json: &str) -> Result<Option<Self>, String> {
        Ok(Some(Self::of(typed(json)?)))
    }

    fn remains(json: &str) -> Option<()> {
        let (_, phase) = rest(json);
        (!has_ended(phase.as_deref())).then_some(())
    }
}

/// Node and phase of a pod that cannot be read.
pub(super) fn rest(json: &str) -> (Option<Box<str>>, Option<String>) {
    let Rest { spec, status } = serde_json::from_str(json).unwrap_or_default();
    (spec.node_name.filter(|name| !name.is_empty()), status.phase)
}

/// Whether a resource is one that a device plugin may offer.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.starts_with("kubernetes.io/") && !name.starts_with("requests.")
}

fn has_ended(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

impl OnNode {
    fn of(wire: Wire) -> Self {
        let role = wire.metadata.labels.get(ROLE_LABEL).and_then(Role::named);
        Self { role, pod: pod(wire) }
    }
}

fn pod(Wire { metadata, spec, status }: Wire) -> Option<Pod> {
    let resources = requested(&spec);
    if has_ended(status.phase.as_deref()) || resources.is_empty() {
        return None;
    }
    let controller = metadata.owner_references.into_iter().find(|owner| owner.controller);
    let grace = spec.termination_grace_period_seconds;
    Some(Pod {
        node: spec.node_name.filter(|name| !name.is_empty()),
        labels: metadata.labels,
        resources,
        ends: ends(metadata.deletion_timestamp.as_ref()),
        controller: controller.map(|owner| (owner.kind, owner.name)),
        is_static: metadata.annotations.mirror.is_some(),
        started: status.start_time.is_some(),
        health: health(&status),
        grace: grace.map_or(DEFAULT_GRACE, |seconds| u64::try_from(seconds).unwrap_or_default()),
    })
}

/// Extended resources that any container requests. Only these can hold one: ephemeral containers and pod-level resources cannot.
fn requested(spec: &Spec) -> Box<[Box<str>]> {
    let all = spec.containers.iter().chain(&spec.init_containers);
    let all = all.flat_map(|container| [&container.resources.requests, &container.resources.limits]).flatten();
    let mut names: Vec<Box<str>> =
        all.filter(|(name, quantity)| is_extended(name) && count(quantity) > 0).map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    names.into()
}

/// How the pod is, for PodDisruptionBudgets.
fn health(status: &Status) -> PodHealth {
    if status.phase.as_deref().is_none_or(|phase| phase == "Pending") {
        PodHealth::Pending
    } else if status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True") {
        PodHealth::Ready
    } else {
        PodHealth::Unready
    }
}
