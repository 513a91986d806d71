//! What other clients changed: labels by which KMM loads that do not fit what was verified on the node. KMM has acted
//! on them already; all that is left is to put the node right in order.

use cxi_api::{Advertise, NodeRollout, Phase, RevisionId, kmm::NodeModule, names::module_name, transaction::WaitFor};

use crate::{
    node::{retry_handler, seen::Seen},
    view::View,
    world::Node,
};

/// Whether KMM's version labels do not fit the record: the one of the node's revision is gone, or others are there. A
/// revision without a Module (the host brings the driver) has no label.
pub fn needs_repair(world: &View<'_>, node: &Seen<'_>, record: &NodeRollout) -> bool {
    let labels = &node.kmm.versions;
    match &record.revision {
        Some(revision) if world.revision(&record.driver, revision).is_some() => {
            labels.only() != Some(revision.as_str())
        }
        _ => !labels.is_empty() && labels.only().is_none(),
    }
}

/// Whether KMM has acted on labels that do not fit: it works on the node, or it has another Module there, or the driver that was
/// verified is gone. Until then the node is as it was, and may wait for its turn.
pub fn kmm_has_acted(node: &Node, record: &NodeRollout) -> bool {
    let Some(revision) = &record.revision else { return true };
    let module = module_name(revision);
    let lists = |modules: &[NodeModule]| modules.iter().any(|listed| listed.name == module);
    let others = node.kmm_has.iter().chain(&node.kmm_wants).any(|listed| listed.name != module);
    let unloaded = node.report().is_some_and(|report| !report.missing_modules().is_empty());
    !node.workers.is_empty() || others || unloaded || lists(&node.kmm_has) && !lists(&node.kmm_wants)
}

/// Whether a transaction may begin: none is under way. A closed node that is being verified outside a transaction (after a
/// reboot, say) may never come to the end of it, so it need not.
pub fn rests(record: &NodeRollout) -> bool {
    let closed = record.transaction.is_none() && record.advertise == Advertise::None;
    let offered_again = record.transaction.is_none() && record.phase == Phase::Returning;
    record.phase.is_settled() || (record.phase == Phase::Verifying && closed) || offered_again
}

/// Whether what KMM says it has loaded is not what the kernel has: modules were taken out or put in by hand, and KMM
/// does not look again. The record says so after the node was verified for a while.
fn is_lost(world: &View<'_>, record: &NodeRollout) -> bool {
    let by_kmm = record.goal().is_some_and(|goal| world.revision(&record.driver, goal).is_some());
    by_kmm && record.wait.as_ref().is_some_and(|wait| wait.what == WaitFor::RightModules)
}

/// Whether a resting node has to be moved: it is not on the revision that is wanted, its retry handler is another one,
/// or its labels or its modules were changed by hand.
pub fn needs_transaction(world: &View<'_>, node: &Seen<'_>, record: &NodeRollout, wanted: Option<&RevisionId>) -> bool {
    if !rests(record) {
        return false;
    }
    if matches!(record.phase, Phase::Verifying | Phase::Returning) {
        return record.goal() != wanted || is_lost(world, record);
    }
    match wanted {
        None => record.revision.is_some() || !node.kmm.versions.is_empty() || record.phase == Phase::Quarantined,
        wanted => {
            let outdated = || retry_handler::are_outdated(world, node, record);
            record.revision.as_ref() != wanted || needs_repair(world, node, record) || outdated()
        }
    }
}
