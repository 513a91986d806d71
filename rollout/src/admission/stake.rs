//! What is lost while a node is out of service, and which nodes are out of service already.

use cxi_api::{NodeRollout, Phase, node_report::Nic};

use crate::{
    driver::scope::{Member, Scope},
    maps::Set,
    node::request::Request,
};

/// What is lost for a while when a node is taken out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stake {
    /// A place for jobs. `counted`: it counts as unavailable at this moment, because its device plugin is away, as while a
    /// newer operator replaces it. It would be back by itself.
    Service { counted: bool },
    /// No place for jobs, but those that hold a NIC go on.
    Jobs,
    /// It has no driver yet, or is broken and empty.
    Nothing,
}

/// See [`Stake`].
pub fn stake(scope: &Scope<'_>, member: &Member<'_>, record: &NodeRollout) -> Stake {
    let node = member.node;
    if is_in_service(scope, member, record) {
        return Stake::Service { counted: false };
    }
    let link_is_up = || node.report().is_some_and(|report| report.devices.iter().any(Nic::is_linked));
    // A gate that is not open yet, or closed a moment ago: what the kubelet still offers may be given to a job.
    let still_offered = || record.revision.is_some() && node.ready && !node.cordoned && node.offered > 0;
    if rests_open(scope, member, record) && link_is_up() || still_offered() {
        return Stake::Service { counted: true };
    }
    if record.revision.is_some() && !node.holders.is_empty() { Stake::Jobs } else { Stake::Nothing }
}

/// Whether an administrator took a node out of the rollout: whatever becomes of it does not hold up the others.
pub fn is_skipped(member: &Member<'_>) -> bool {
    member.node.ours.request == Some(Request::Skip)
}

/// Whether a node counts as unavailable: in flight, or not in service for whatever reason and not left out.
pub fn counts(scope: &Scope<'_>, in_flight: &Set<&str>, member: &Member<'_>) -> bool {
    let in_flight = in_flight.contains(member.node.name.as_str());
    in_flight
        || !is_skipped(member) && !member.node.rollout().is_some_and(|record| is_in_service(scope, member, record))
}

/// Whether jobs can use a node's NICs: verified in this boot, Ready, not cordoned, and offered.
pub fn is_in_service(scope: &Scope<'_>, member: &Member<'_>, record: &NodeRollout) -> bool {
    rests_open(scope, member, record) && (scope.intent.offer.is_none() || member.node.allocatable > 0)
}

/// Whether nothing of ours keeps jobs from a node: verified in this boot, Ready, not cordoned, and with its device plugin.
fn rests_open(scope: &Scope<'_>, member: &Member<'_>, record: &NodeRollout) -> bool {
    let node = member.node;
    let Some(revision) = &record.revision else { return false };
    let gate = || node.plugin == Some(revision.as_str());
    let rests = matches!(record.phase, Phase::UpToDate | Phase::Pending | Phase::Admitted);
    rests && node.is_in_boot_of(record) && node.ready && !node.cordoned && (scope.intent.offer.is_none() || gate())
}
