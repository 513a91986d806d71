//! The labels and the taint of ours that a node should carry, and what to change so that it does. KMM's version labels are
//! not here: they move only with a proof.

#![allow(clippy::option_option, reason = "outside: leave alone; inside: take away")]

use cxi_api::{
    NodeRollout, Phase, RevisionId,
    names::{DRIVER_LABEL, DRIVER_VERSION_LABEL, UPGRADE_PENDING_TAINT, device_plugin_gate, retry_handler_gate},
};

use crate::{
    action::NodeChange,
    evidence::{looks::Steps, proof::is_refused},
    node::{retry_handler, seen::Seen},
    view::View,
    world::{Driver, Holder, Taint},
};

/// What a node should carry. `None` leaves things as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted<'r> {
    /// Label that names the owner.
    pub owner: Option<bool>,
    /// Revision whose device plugin may run, or no device plugin.
    pub gate: Option<Option<&'r RevisionId>>,
    /// Revision with which a retry handler may run, or none.
    pub retry_handler: Option<Option<&'r RevisionId>>,
    /// Revision whose driver release the version label names.
    pub version: Option<Option<&'r RevisionId>>,
    /// The taint that steers new jobs away.
    pub taint: Option<bool>,
}

/// What the operands' gates depend on besides the record.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// Whether the device plugin is wanted.
    pub plugin: bool,
    /// Whether the retry handler is wanted.
    pub retry_handler: bool,
    /// The node, on which there may be pods that hold the device.
    pub node: &'a Seen<'a>,
}

/// What is known of pods that hold the device. Without a retry handler, packets that the network loses are lost to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// There may be some.
    Possible,
    /// None is seen: a retry handler that is not wanted any more may go.
    Unseen,
    /// A look at the closed node, without a cache, shows none: the retry handler may go from a node that is to be unloaded. A pod
    /// that the kubelet accepted a moment ago may be in no cache yet.
    Excluded,
}

impl Pods {
    /// What is known of pods that may have a NIC. What excludes them is the last look of this step: it found the node closed, and no pod
    /// but those that the kubelet refuses.
    pub fn on(node: &Seen<'_>) -> Self {
        let Some(record) = node.rollout() else { return Self::Possible };
        let refused = |holder: &Holder| is_refused(node, record, holder);
        if !node.holders.iter().copied().all(refused) {
            return Self::Possible;
        }
        let last = Steps::of(record).looks(node).next_back();
        let free = last.is_some_and(|look| look.is_closed() && look.holders.iter().all(refused));
        if free { Self::Excluded } else { Self::Unseen }
    }
}

/// What a node should carry in the phase that is written in its record.
pub fn wanted<'r>(rollout: &'r NodeRollout, operands: Operands<'_>) -> Wanted<'r> {
    let revision = rollout.revision.as_ref();
    let open = revision.filter(|_| operands.plugin);
    let before_exchange = matches!(rollout.phase, Phase::Admitted | Phase::Waiting);
    // What comes before an exchange opens the gate only for what is labelled; a gate that is open stays.
    let labelled = operands.node.kmm.versions.only() == rollout.revision.as_ref().map(RevisionId::as_str);
    let away = || (Pods::on(operands.node) != Pods::Possible).then_some(None);
    let away_from_closed = || (Pods::on(operands.node) == Pods::Excluded).then_some(None);
    let serving = || match revision {
        Some(revision) if operands.retry_handler => Some(Some(revision)),
        // What was offered in the last boot, or a moment ago, may have been given to a pod that is in no cache yet.
        None if before_exchange => away_from_closed(),
        _ => away(),
    };
    let behind = rollout.revision.is_some() && rollout.revision != rollout.target_revision;
    let released = rollout.target_revision.is_none() && rollout.revision.is_none();
    match rollout.phase {
        Phase::Pending if released => {
            Wanted { owner: None, gate: Some(None), retry_handler: away(), version: Some(None), taint: Some(false) }
        }
        Phase::UpToDate | Phase::Pending | Phase::Admitted | Phase::Waiting | Phase::Returning => Wanted {
            owner: Some(true),
            gate: (labelled || open.is_none() || !before_exchange).then_some(open),
            retry_handler: serving(),
            version: Some(revision),
            taint: Some(behind),
        },
        // A node that was found running (its record was lost) keeps what it has until it is known to be wrong.
        Phase::Verifying if rollout.advertise == cxi_api::Advertise::All => {
            Wanted { owner: Some(true), ..Wanted::default() }
        }
        Phase::Closing | Phase::Evicting | Phase::Quiesced | Phase::RollingBack => {
            Wanted { retry_handler: away_from_closed(), ..closed() }
        }
        // That no pod can need a retry handler was proved before.
        Phase::Unloading | Phase::Loading => Wanted { retry_handler: away(), ..closed() },
        // The test may need the retry handler, and no pod of a user can get here.
        Phase::Validating => {
            Wanted { retry_handler: rollout.goal().filter(|_| operands.retry_handler).map(Some), ..closed() }
        }
        // These may have offered NICs a moment ago.
        Phase::Verifying | Phase::Quarantined => closed(),
    }
}

/// What every closed node carries.
fn closed() -> Wanted<'static> {
    Wanted { owner: Some(true), gate: Some(None), retry_handler: None, version: Some(None), taint: None }
}

/// The changes that make `node` carry what is wanted; empty when it does.
pub fn changes(view: &View<'_>, driver: &Driver, node: &Seen<'_>, wanted: &Wanted<'_>) -> Vec<NodeChange> {
    let (mut changes, labels) = (Vec::new(), &node.ours);
    if let Some(owner) = wanted.owner {
        set(&mut changes, || DRIVER_LABEL.into(), labels.driver, owner.then_some(driver.name.as_str()));
    }
    if let Some(gate) = wanted.gate {
        let key = || device_plugin_gate(&driver.name);
        set(&mut changes, key, node.plugin, gate.map(RevisionId::as_str));
    }
    if let Some(wanted) = wanted.retry_handler {
        let (key, open) = (|| retry_handler_gate(&driver.name), node.retry_handler);
        let served = wanted.zip(node.rollout());
        let value = served.and_then(|(id, record)| retry_handler::gate_value(view, driver, node, record, id));
        set(&mut changes, key, open, value.as_deref());
    }
    if let Some(revision) = wanted.version {
        let known = revision.and_then(|revision| view.known(&driver.name, revision));
        set(&mut changes, || DRIVER_VERSION_LABEL.into(), labels.release, known.map(|known| known.label.as_str()));
    }
    let ours = node.taints.iter().position(|taint| taint.key == UPGRADE_PENDING_TAINT);
    match (wanted.taint, ours) {
        (Some(true), None) => changes.push(NodeChange::AddTaint { was: node.taints.clone(), taint: pending_taint() }),
        (Some(false), Some(index)) => {
            changes.push(NodeChange::RemoveTaint { index, taint: node.taints[index].clone() });
        }
        _ => {}
    }
    changes
}

/// The driver release of the revision that `now` names. Where its Module is gone, or the host brings the driver, what was written down
/// while it was known.
pub fn release<'a>(view: &View<'a>, was: &'a NodeRollout, now: &NodeRollout) -> Option<&'a str> {
    let known = view.revision(&now.driver, now.revision.as_ref()?).map(|known| known.version.as_str());
    known.or_else(|| was.version.as_deref().filter(|_| was.revision == now.revision))
}

fn pending_taint() -> Taint {
    Taint { key: UPGRADE_PENDING_TAINT.into(), value: String::new(), effect: "PreferNoSchedule".into() }
}

fn set(changes: &mut Vec<NodeChange>, key: impl FnOnce() -> String, was: Option<&str>, value: Option<&str>) {
    if was == value {
        return;
    }
    let (key, was) = (key(), was.map(str::to_owned));
    match (was, value) {
        (was, Some(value)) => changes.push(NodeChange::SetLabel { key, was, value: value.into() }),
        (Some(was), None) => changes.push(NodeChange::RemoveLabel { key, was }),
        (None, None) => {}
    }
}
