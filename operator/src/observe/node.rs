//! A Node and its CXINode as the engine sees them.

use std::collections::BTreeMap;

use cxi_api::CXINode;
use cxi_rollout::world::{Node, Record, Taint};
use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;

use crate::observe::pod::count;

/// The node without what is on it.
pub fn node(object: &core::Node, record: Option<&CXINode>) -> Node {
    let uid = object.uid().unwrap_or_default();
    let spec = object.spec.as_ref();
    let status = object.status.as_ref();
    let info = status.and_then(|status| status.node_info.as_ref());
    let (record, stale_record) = match record {
        None => (None, None),
        Some(record) if belongs_to(record, &uid) => (Some(place(record)), None),
        Some(stale) => (None, stale.uid()),
    };
    Node {
        name: object.name_any(),
        uid,
        created: object.metadata.creation_timestamp.as_ref().map(|time| time.0).unwrap_or_default(),
        labels: object.labels().clone(),
        taints: taints(spec),
        ready: is_ready(object),
        cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or_default(),
        kernel: info.map(|info| info.kernel_version.clone()).unwrap_or_default(),
        boot_id: info.map(|info| info.boot_id.clone()).unwrap_or_default(),
        allocatable: allocatable(status),
        record,
        unreadable: None,
        stale_record,
        holders: Vec::new(),
        kmm_wants: Vec::new(),
        kmm_has: Vec::new(),
        workers: Vec::new(),
        pods: Vec::new(),
        looks: Vec::new(),
    }
}

/// Whether a CXINode belongs to the Node with this UID, not to an earlier one of the same name.
fn belongs_to(record: &CXINode, node_uid: &str) -> bool {
    record.owner_references().iter().any(|owner| owner.kind == "Node" && owner.uid == node_uid)
}

fn place(record: &CXINode) -> Record {
    let status = record.status.as_ref();
    Record {
        uid: record.uid().unwrap_or_default(),
        rollout: status.and_then(|status| status.rollout.clone()),
        report: status.and_then(|status| status.node.clone()),
    }
}

/// Taints of a node.
pub fn taints(spec: Option<&core::NodeSpec>) -> Vec<Taint> {
    let all = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    all.iter()
        .map(|taint| Taint {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect: taint.effect.clone(),
        })
        .collect()
}

/// Whether its condition Ready is True.
pub fn is_ready(object: &core::Node) -> bool {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Allocatable extended resources.
pub fn allocatable(status: Option<&core::NodeStatus>) -> BTreeMap<String, i64> {
    let all = status.and_then(|status| status.allocatable.as_ref());
    all.into_iter()
        .flatten()
        .filter(|(name, _)| super::pod::is_extended(name))
        .map(|(name, quantity)| (name.clone(), count(quantity)))
        .collect()
}
