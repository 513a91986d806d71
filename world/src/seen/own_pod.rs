//! A pod of the operator's namespace: one of ours, or one of KMM's for our Modules. Names and shapes of what a kubelet says of
//! containers are those of the API.

use cxi_api::{
    kmm::{BUILD_POD_LABEL, MODULE_NAME_LABEL, PULL_POD_LABEL, TARGET_KERNEL_LABEL, WORKER_ACTION_LABEL},
    names::{DRIVER_LABEL, REVISION_LABEL, ROLE_LABEL},
};
use cxi_manifests::operands::of_role;
use k8s_openapi::api::core::v1;
use serde::Deserialize;
use serde_json::Value;

use super::{Kind, Labels, PodRemains, fields::or_default, pod::rest, typed};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPod {
    /// Node that it is bound to.
    pub node: Option<Box<str>>,
    /// Labels that say what it is for.
    pub labels: Labels,
    /// KMM's configuration of a worker.
    pub worker_config: Option<Box<str>>,
    /// Image of its first container.
    pub image: Option<Box<str>>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What the kubelet says of it; absent before it says anything.
    pub status: Option<PodStatus>,
}

/// What a kubelet says of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Phase.
    pub phase: Option<String>,
    /// Reason of the phase, in one word.
    pub reason: Option<String>,
    /// Reason of the phase, in words.
    pub message: Option<String>,
    /// Conditions.
    pub conditions: Option<Vec<PodCondition>>,
    /// Init containers.
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    /// Containers.
    pub container_statuses: Option<Vec<ContainerStatus>>,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    /// Type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Reason in one word.
    pub reason: Option<String>,
    /// Reason in words.
    pub message: Option<String>,
}

/// What a kubelet says of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restart_count: i32,
    /// How it is.
    pub state: Option<ContainerState>,
    /// How it was before it was started again.
    pub last_state: Option<ContainerState>,
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It is not started yet.
    pub waiting: Option<Waiting>,
    /// It has ended.
    pub terminated: Option<Terminated>,
}

/// Why a container is not started yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// In one word.
    pub reason: Option<String>,
    /// In words.
    pub message: Option<String>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    /// Exit status.
    pub exit_code: i32,
    /// Why, in one word.
    pub reason: Option<String>,
    /// What it left in its termination message.
    pub message: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
    #[serde(default)]
    status: Option<PodStatus>,
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
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(default, rename = "kmm.node.kubernetes.io/worker-config")]
    worker_config: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Option<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    image: Option<Box<str>>,
}

/// Labels that are read.
const LABELS: [&str; 8] = [
    ROLE_LABEL,
    DRIVER_LABEL,
    REVISION_LABEL,
    WORKER_ACTION_LABEL,
    PULL_POD_LABEL,
    BUILD_POD_LABEL,
    TARGET_KERNEL_LABEL,
    MODULE_NAME_LABEL,
];

impl Kind for OwnPod {
    type Api = v1::Pod;
    type Remains = PodRemains;

    /// Nothing is read from the pods of operands without a gate, of which there is one of each per node: agents speak for themselves,
    /// in their reports, and how many are ready their DaemonSets say.
    fn parse(json: &str) -> Result<Option<Self>, String> {
        let Wire { metadata, spec, status } = typed(json)?;
        let labels = metadata.labels.only(&LABELS);
        let unread = |role: &str| of_role(role).is_some_and(|operand| operand.gate.is_none());
        let kinds = [ROLE_LABEL, WORKER_ACTION_LABEL, PULL_POD_LABEL, BUILD_POD_LABEL];
        let of_a_kind = kinds.iter().any(|key| labels.get(key).is_some());
        if !of_a_kind || labels.get(ROLE_LABEL).is_some_and(unread) {
            return Ok(None);
        }
        Ok(Some(Self {
            node: spec.node_name.filter(|name| !name.is_empty()),
            labels,
            worker_config: metadata.annotations.worker_config,
            image: spec.containers.into_iter().next().and_then(|container| container.image),
            deleting: metadata.deletion_timestamp.is_some(),
            status,
        }))
    }

    /// Where it is. Also one that has ended: it may be a one-shot pod of ours, whose end means something.
    fn remains(json: &str) -> Option<PodRemains> {
        Some(PodRemains { node: rest(json).0 })
    }
}
