//! What other clients changed: labels by which KMM loads that do not fit what was verified on the node. KMM has acted
//! on them already; all that is left is to put the node right in order.

use cxi_api::{
    Advertise, NodeRollout, Phase, RevisionId,
    kmm::NodeModule,
    names::{module_name, revision_in},
    transaction::WaitFor,
};

use crate::{
    node::{retry_handler, seen::Seen},
    view::View,
};

/// Whether KMM's version labels do not fit the record: the one of the node's revision is gone, or others are there, or it was gone
/// for a moment, and KMM takes the driver out for that. A revision without a Module (the host brings the driver) has no label.
pub fn needs_repair(world: &View<'_>, node: &Seen<'_>, record: &NodeRollout) -> bool {
    let labels = &node.kmm.versions;
    match &record.revision {
        Some(revision) if world.revision(&record.driver, revision).is_some() => {
            labels.only() != Some(revision.as_str()) || is_being_unloaded(node, revision)
        }
        _ => !labels.is_empty() && labels.only().is_none(),
    }
}

/// Whether a worker of KMM's takes this revision out. KMM does not call it off when the label is back: it waits for the device, and has
/// the driver as soon as no process has the device open.
pub fn is_being_unloaded(node: &Seen<'_>, revision: &RevisionId) -> bool {
    let is_of = |module: &str| revision_in(module) == Some(revision.as_str());
    node.workers.iter().any(|worker| !worker.loads && is_of(&worker.module))
}

/// Whether KMM has acted on labels that do not fit: it works on the node, or it has another Module there, or the driver that was
/// verified is gone. Until then the node is as it was, and may wait for its turn.
pub fn kmm_has_acted(node: &Seen<'_>, record: &NodeRollout) -> bool {
    let Some(revision) = &record.revision else { return true };
    let module = module_name(revision);
    let lists = |modules: &[NodeModule]| modules.iter().any(|listed| listed.name == module);
    let others = node.kmm_has.iter().chain(&node.kmm_wants).any(|listed| listed.name != module);
    let unloaded = node.report().is_some_and(|report| !report.missing_modules().is_empty());
    // An unloader whose label is back waits until the device is free: until then jobs go on, and to wait keeps them.
    let works = node.workers.iter().any(|worker| worker.loads || worker.module != module);
    let labelled = node.kmm.versions.only() == Some(revision.as_str());
    works || others || unloaded || !labelled && lists(&node.kmm_has) && !lists(&node.kmm_wants)
}

/// Whether a transaction may begin: none is under way. A closed node that is being verified outside a transaction (after a
/// reboot, say) may never come to the end of it, so it need not.
pub fn rests(record: &NodeRollout) -> bool {
    // Whatever its record says that it offers: only with `All` it keeps what it has while it is verified.
    let closed = record.transaction.is_none() && record.advertise != Advertise::All;
    let offered_again = record.transaction.is_none() && record.phase == Phase::Returning;
    record.phase.is_settled() || (record.phase == Phase::Verifying && closed) || offered_again
}

/// Whether what KMM says it has loaded is not what the kernel has: modules were taken out or put in by hand, and KMM
/// does not look again. Or KMM takes the driver out, and waits for a device that the node's own retry handler holds. The record says so
/// after the node was verified for a while.
fn is_lost(world: &View<'_>, record: &NodeRollout) -> bool {
    let by_kmm = record.goal().is_some_and(|goal| world.revision(&record.driver, goal).is_some());
    by_kmm && record.wait.as_ref().is_some_and(|wait| matches!(wait.what, WaitFor::RightModules | WaitFor::KmmUnload))
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
