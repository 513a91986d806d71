//! A Node and its CXINode as the engine sees them.

use cxi_rollout::world::{Node, Record};

use crate::seen::{self, Object};

/// The node without what is on it. Of a Node that cannot be read there is only its name, so that nothing selects it and
/// it is not taken for one that is gone.
pub fn node(object: &Object<seen::Node>, record: Option<&Object<seen::Record>>) -> Node {
    let uid = object.id.uid.to_string();
    let content = object.readable().cloned().unwrap_or_default();
    let (record, stale_record, unreadable) = match record {
        None => (None, None, None),
        Some(record) => place(record, &uid),
    };
    Node {
        name: object.id.name().to_owned(),
        uid,
        created: content.created,
        labels: content.labels.to_map(),
        taints: content.taints.into(),
        ready: content.ready,
        cordoned: content.cordoned,
        kernel: content.kernel.into(),
        boot_id: content.boot_id.into(),
        allocatable: content.allocatable.into_iter().map(|(name, count)| (name.into(), count)).collect(),
        record,
        unreadable: object.unreadable().or(unreadable),
        stale_record,
        holders: Vec::new(),
        kmm_wants: Vec::new(),
        kmm_has: Vec::new(),
        workers: Vec::new(),
        pods: Vec::new(),
        looks: Vec::new(),
    }
}

/// The record, or the UID of one that belongs to an earlier Node of this name, or why it cannot be read.
fn place(object: &Object<seen::Record>, node_uid: &str) -> (Option<Record>, Option<String>, Option<String>) {
    let Some(record) = object.readable() else { return (None, None, object.unreadable()) };
    if !record.owners.iter().any(|owner| **owner == *node_uid) {
        return (None, Some(object.id.uid.to_string()), None);
    }
    match &record.rollout {
        Ok(rollout) => {
            let (rollout, report) = (rollout.as_deref().cloned(), record.report.as_deref().cloned());
            (Some(Record { uid: object.id.uid.to_string(), rollout, report }), None, None)
        }
        Err(why) => (None, None, Some(format!("CXINode {} cannot be read: {why}", object.id.name()))),
    }
}
