//! What the oracle reads from API objects.

use std::collections::BTreeMap;

use cxi_api::{
    CXIDriver, CXIDriverSpec, CXIDriverStatus, CXINode, NodeRollout, RevisionId, Timestamp,
    names::{DRIVER_LABEL, KMM_VERSION_PREFIX},
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use crate::soft_node::extended_requests;

/// Prefix of the node labels that open the device plugin's gate.
const GATE_PREFIX: &str = "cxi.hpe.com/device-plugin.";

/// Prefix of the names of our KMM Modules.
const MODULE_PREFIX: &str = "cxi-";

/// What matters of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Taints as `key=value:effect`.
    pub taints: Vec<String>,
    /// Whether somebody cordoned it.
    pub unschedulable: bool,
    /// Whether it is Ready.
    pub ready: bool,
    /// Allocatable extended resources.
    pub allocatable: BTreeMap<String, i64>,
}

impl NodeFacts {
    /// Reads a Node.
    pub fn read(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let status = node.status.clone().unwrap_or_default();
        let mut taints: Vec<String> = spec
            .taints
            .unwrap_or_default()
            .into_iter()
            .map(|taint| format!("{}={}:{}", taint.key, taint.value.unwrap_or_default(), taint.effect))
            .collect();
        taints.sort();
        Self {
            name: node.name_any(),
            uid: node.uid().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            annotations: node.metadata.annotations.clone().unwrap_or_default(),
            taints,
            unschedulable: spec.unschedulable.unwrap_or_default(),
            ready: status.conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True"),
            allocatable: status
                .allocatable
                .unwrap_or_default()
                .into_iter()
                .filter(|(name, _)| name.contains('/'))
                .filter_map(|(name, quantity)| Some((name, quantity.0.parse().ok()?)))
                .collect(),
        }
    }

    /// Revision that a CXIDriver's gate carries.
    pub fn gate(&self, driver: &str) -> Option<&str> {
        self.labels.get(&format!("{GATE_PREFIX}{driver}")).map(String::as_str)
    }

    /// Every gate: CXIDriver and revision.
    pub fn gates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().filter_map(|(key, value)| Some((key.strip_prefix(GATE_PREFIX)?, value.as_str())))
    }

    /// Names of our KMM Modules whose version label is set.
    pub fn modules(&self) -> Vec<&str> {
        self.labels
            .keys()
            .filter_map(|key| key.strip_prefix(KMM_VERSION_PREFIX)?.split_once('.'))
            .map(|(_, module)| module)
            .filter(|module| module.starts_with(MODULE_PREFIX))
            .collect()
    }

    /// CXIDriver that owns the node.
    pub fn driver(&self) -> Option<&str> {
        self.labels.get(DRIVER_LABEL).map(String::as_str)
    }
}

/// What matters of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// UID.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Node that it is bound to.
    pub node: Option<String>,
    /// Extended resources that it asks for.
    pub requests: BTreeMap<String, i64>,
    /// Whether it has ended.
    pub terminal: bool,
    /// Whether it was told to end.
    pub deleted: bool,
    /// Reason and time of its `DisruptionTarget` condition.
    pub disruption: Option<(String, Option<Timestamp>)>,
    /// Whether a `DaemonSet` made it.
    pub daemon: bool,
}

impl PodFacts {
    /// Reads a Pod.
    pub fn read(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let disruption = status
            .conditions
            .unwrap_or_default()
            .into_iter()
            .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")
            .map(|c| (c.reason.unwrap_or_default(), c.last_transition_time.map(|time| time.0)));
        Self {
            uid: pod.uid().unwrap_or_default(),
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            node: spec.and_then(|spec| spec.node_name.clone()),
            requests: spec.map(|spec| extended_requests(&spec.containers)).unwrap_or_default(),
            terminal: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            deleted: pod.metadata.deletion_timestamp.is_some(),
            disruption,
            daemon: pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet"),
        }
    }

    /// Whether it holds a resource, or will as soon as it starts.
    pub fn holds(&self, resource: &str) -> bool {
        !self.terminal && self.requests.contains_key(resource)
    }

    /// Namespace and name.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What matters of a CXINode.
#[derive(Clone, Debug, PartialEq)]
pub struct CxiFacts {
    /// Name, that of the node.
    pub name: String,
    /// Its place in a rollout.
    pub rollout: Option<NodeRollout>,
}

impl CxiFacts {
    /// Reads a CXINode.
    pub fn read(node: &CXINode) -> Self {
        let rollout = node.status.as_ref().and_then(|status| status.rollout.clone());
        Self { name: node.name_any(), rollout }
    }
}

/// What matters of a CXIDriver.
#[derive(Clone, Debug, PartialEq)]
pub struct DriverFacts {
    /// Name.
    pub name: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What is wanted.
    pub spec: CXIDriverSpec,
    /// What the operator says.
    pub status: Option<CXIDriverStatus>,
}

impl DriverFacts {
    /// Reads a CXIDriver.
    pub fn read(driver: &CXIDriver) -> Self {
        Self {
            name: driver.name_any(),
            generation: driver.metadata.generation.unwrap_or_default(),
            deleting: driver.metadata.deletion_timestamp.is_some(),
            spec: driver.spec.clone(),
            status: driver.status.clone(),
        }
    }

    /// Resource that its device plugin offers.
    pub fn resource(&self) -> &str {
        &self.spec.device_plugin.resource_name
    }

    /// Revision that the spec describes.
    pub fn target(&self) -> RevisionId {
        self.spec.revision(&self.name)
    }
}
