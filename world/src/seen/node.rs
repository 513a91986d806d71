//! A Node.

use std::collections::BTreeMap;

use cxi_api::Timestamp;
use cxi_rollout::world::Taint;
use k8s_openapi::api::core::v1;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Kind, Labels,
    fields::{count, created, or_default},
    pod::is_extended,
    typed,
};

/// What counts of a Node. Its heartbeats and addresses, the images that it has and its annotations do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// When it was created.
    pub created: Timestamp,
    /// Labels.
    pub labels: Labels,
    /// Taints, in their order.
    pub taints: Box<[Taint]>,
    /// `spec.unschedulable`.
    pub cordoned: bool,
    /// Whether its condition Ready is True.
    pub ready: bool,
    /// `status.nodeInfo.kernelVersion`.
    pub kernel: Box<str>,
    /// `status.nodeInfo.bootID`.
    pub boot_id: Box<str>,
    /// Allocatable extended resources.
    pub allocatable: Box<[(Box<str>, i64)]>,
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
    creation_timestamp: Option<Value>,
    #[serde(default)]
    labels: Labels,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(deserialize_with = "or_default")]
    taints: Vec<WireTaint>,
    #[serde(deserialize_with = "or_default")]
    unschedulable: bool,
}

#[derive(Deserialize)]
struct WireTaint {
    key: String,
    #[serde(default, deserialize_with = "or_default")]
    value: String,
    #[serde(default, deserialize_with = "or_default")]
    effect: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(deserialize_with = "or_default")]
    allocatable: BTreeMap<Box<str>, Value>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "or_default")]
    node_info: NodeInfo,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeInfo {
    kernel_version: Box<str>,
    #[serde(rename = "bootID")]
    boot_id: Box<str>,
}

impl Kind for Node {
    type Api = v1::Node;
    type Remains = ();

    fn parse(json: &str) -> Result<Option<Self>, String> {
        let Wire { metadata, spec, status } = typed(json)?;
        let taint = |taint: WireTaint| Taint { key: taint.key, value: taint.value, effect: taint.effect };
        let extended = status.allocatable.into_iter().filter(|(name, _)| is_extended(name));
        Ok(Some(Self {
            created: created(metadata.creation_timestamp.as_ref()),
            labels: metadata.labels,
            taints: spec.taints.into_iter().map(taint).collect(),
            cordoned: spec.unschedulable,
            ready: status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True"),
            kernel: status.node_info.kernel_version,
            boot_id: status.node_info.boot_id,
            allocatable: extended.map(|(name, quantity)| (name, count(&quantity))).collect(),
        }))
    }
}

impl Node {
    /// How many of these resources the node offers, all names together.
    pub fn offers<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> i64 {
        let names: std::collections::BTreeSet<&str> = names.into_iter().map(String::as_str).collect();
        let counts = self.allocatable.iter().filter(|(name, _)| names.contains(&**name)).map(|(_, count)| *count);
        counts.fold(0, i64::saturating_add)
    }
}
