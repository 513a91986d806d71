//! What somebody else changed: labels by which KMM loads that do not fit what was verified on the node. KMM has acted on
//! them already; all that is left is to put the node right in order.

use cxi_api::{Advertise, NodeRollout, Phase, RevisionId};

use crate::{
    proof::version_labels,
    world::{Node, World},
};

/// Whether KMM's version labels do not fit the record: the one of the node's revision is gone, or others are there. A
/// revision without a Module (the host brings the driver) has no label.
pub fn needs_repair(world: &World, node: &Node, record: &NodeRollout) -> bool {
    let labels: Vec<&String> = version_labels(node, &world.namespace).map(|(_, value)| value).collect();
    let by_kmm = |id: &RevisionId| world.revisions.iter().any(|revision| revision.id == *id);
    match &record.revision {
        Some(revision) if by_kmm(revision) => labels.len() != 1 || labels[0].as_str() != revision.as_str(),
        _ => labels.len() > 1,
    }
}

/// Whether a transaction may begin: none is under way. A closed node that is being verified outside a transaction (after a
/// reboot, say) may never come to the end of it, so it need not.
pub fn rests(record: &NodeRollout) -> bool {
    let closed = record.cause.is_none() && record.advertise == Advertise::None;
    record.phase.is_settled() || (record.phase == Phase::Verifying && closed)
}

/// Whether a resting node has to be moved: it is not on the revision that is wanted, or its labels were changed.
pub fn needs_transaction(world: &World, node: &Node, record: &NodeRollout, wanted: Option<&RevisionId>) -> bool {
    if !rests(record) {
        return false;
    }
    if record.phase == Phase::Verifying {
        return record.goal.as_ref() != wanted;
    }
    let labelled = version_labels(node, &world.namespace).next().is_some();
    match wanted {
        None => record.revision.is_some() || labelled || record.phase == Phase::Quarantined,
        wanted => record.revision.as_ref() != wanted || needs_repair(world, node, record),
    }
}
