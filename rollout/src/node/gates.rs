//! The labels and the taint of ours that a node should carry, and what to change so that it does. KMM's version labels are
//! not here: they move only with a proof.

#![allow(clippy::option_option, reason = "outside: leave alone; inside: take away")]

use cxi_api::{
    NodeRollout, Phase, RevisionId,
    names::{
        DRIVER_LABEL, DRIVER_VERSION_LABEL, UPGRADE_PENDING_TAINT, device_plugin_gate, label_value, retry_handler_gate,
    },
};

use crate::{
    action::NodeChange,
    evidence::{looks::Steps, proof::is_refused},
    node::retry_handler,
    view::View,
    world::{Driver, Holder, Node, Taint},
};

/// What a node should carry. `None` leaves things as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Label that names the owner.
    pub owner: Option<bool>,
    /// Revision whose device plugin may run, or no device plugin.
    pub gate: Option<Option<RevisionId>>,
    /// Revision with which a retry handler may run, or none.
    pub retry_handler: Option<Option<RevisionId>>,
    /// Revision whose driver release the version label names.
    pub version: Option<Option<RevisionId>>,
    /// The taint that steers new jobs away.
    pub taint: Option<bool>,
}

/// What the operands' gates depend on besides the record.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// Whether the device plugin is wanted.
    pub plugin: bool,
    /// Whether the retry handler is wanted.
    pub retry_handler: bool,
    /// What is known of pods that hold the device.
    pub pods: Pods,
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
    pub fn on(node: &Node, driver: &Driver) -> Self {
        let Some(record) = node.rollout() else { return Self::Possible };
        let refused = |holder: &Holder| is_refused(node, record, holder);
        if !node.holders_of(driver).into_iter().all(refused) {
            return Self::Possible;
        }
        let last = Steps::of(record).looks(node).next_back();
        let free = last.is_some_and(|look| look.is_closed() && look.holders.iter().all(refused));
        if free { Self::Excluded } else { Self::Unseen }
    }
}

/// What a node should carry in the phase that is written in its record.
pub fn wanted(rollout: &NodeRollout, operands: Operands) -> Wanted {
    let open = |revision: &Option<RevisionId>| Some(revision.clone().filter(|_| operands.plugin));
    let away = (operands.pods != Pods::Possible).then_some(None);
    let away_from_closed = (operands.pods == Pods::Excluded).then_some(None);
    let serving = |revision: &Option<RevisionId>| match revision {
        Some(revision) if operands.retry_handler => Some(Some(revision.clone())),
        // What was offered in the last boot, or a moment ago, may have been given to a pod that is in no cache yet.
        None if matches!(rollout.phase, Phase::Admitted | Phase::Waiting) => away_from_closed.clone(),
        _ => away.clone(),
    };
    let behind = rollout.revision.is_some() && rollout.revision != rollout.target_revision;
    let released = rollout.target_revision.is_none() && rollout.revision.is_none();
    match rollout.phase {
        Phase::Pending if released => {
            Wanted { owner: None, gate: Some(None), retry_handler: away, version: Some(None), taint: Some(false) }
        }
        Phase::UpToDate | Phase::Pending | Phase::Admitted | Phase::Waiting | Phase::Returning => Wanted {
            owner: Some(true),
            gate: open(&rollout.revision),
            retry_handler: serving(&rollout.revision),
            version: Some(rollout.revision.clone()),
            taint: Some(behind),
        },
        // A node that was found running (its record was lost) keeps what it has until it is known to be wrong.
        Phase::Verifying if rollout.advertise == cxi_api::Advertise::All => {
            Wanted { owner: Some(true), ..Wanted::default() }
        }
        Phase::Closing | Phase::Evicting | Phase::Quiesced | Phase::RollingBack => {
            Wanted { retry_handler: away_from_closed, ..closed() }
        }
        // That no pod can need a retry handler was proved before.
        Phase::Unloading | Phase::Loading => Wanted { retry_handler: away, ..closed() },
        // The test may need the retry handler, and no pod of a user can get here.
        Phase::Validating => Wanted { retry_handler: testing(rollout, operands), ..closed() },
        // These may have offered NICs a moment ago.
        Phase::Verifying | Phase::Quarantined => closed(),
    }
}

/// The retry handler of a revision that is being tested.
fn testing(rollout: &NodeRollout, operands: Operands) -> Option<Option<RevisionId>> {
    rollout.goal().filter(|_| operands.retry_handler).cloned().map(Some)
}

/// What every closed node carries.
fn closed() -> Wanted {
    Wanted { owner: Some(true), gate: Some(None), retry_handler: None, version: Some(None), taint: None }
}

/// The changes that make `node` carry what is wanted; empty when it does.
pub fn changes(view: &View<'_>, driver: &Driver, node: &Node, wanted: &Wanted) -> Vec<NodeChange> {
    let mut changes = Vec::new();
    match wanted.owner {
        Some(true) => set(&mut changes, node, DRIVER_LABEL, Some(&driver.name)),
        Some(false) => set(&mut changes, node, DRIVER_LABEL, None),
        None => {}
    }
    if let Some(gate) = &wanted.gate {
        set(&mut changes, node, &device_plugin_gate(&driver.name), gate.as_ref().map(RevisionId::as_str));
    }
    if let Some(wanted) = &wanted.retry_handler {
        let record = node.rollout();
        let value = wanted
            .as_ref()
            .zip(record)
            .and_then(|(id, record)| retry_handler::gate_value(view, driver, node, record, id));
        set(&mut changes, node, &retry_handler_gate(&driver.name), value.as_deref());
    }
    if let Some(revision) = &wanted.version {
        let version = revision.as_ref().and_then(|revision| version_of(view, &driver.name, revision)).map(label_value);
        set(&mut changes, node, DRIVER_VERSION_LABEL, version.as_deref());
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

/// The driver release of a revision; none where the host brings the driver, whose release nothing tells.
fn version_of<'a>(view: &View<'a>, driver: &str, revision: &RevisionId) -> Option<&'a str> {
    view.revision(driver, revision).map(|known| known.version.as_str())
}

/// The driver release of the revision that `now` names. Where its Module is gone, what was written down while it was there.
pub fn release(view: &View<'_>, was: &NodeRollout, now: &NodeRollout) -> Option<String> {
    let known = version_of(view, &now.driver, now.revision.as_ref()?).map(str::to_owned);
    known.or_else(|| was.version.clone().filter(|_| was.revision == now.revision))
}

fn pending_taint() -> Taint {
    Taint { key: UPGRADE_PENDING_TAINT.into(), value: String::new(), effect: "PreferNoSchedule".into() }
}

fn set(changes: &mut Vec<NodeChange>, node: &Node, key: &str, value: Option<&str>) {
    let was = node.labels.get(key);
    match (was, value) {
        (None, None) => {}
        (Some(was), Some(value)) if was == value => {}
        (was, Some(value)) => {
            changes.push(NodeChange::SetLabel { key: key.into(), was: was.cloned(), value: value.into() });
        }
        (Some(was), None) => changes.push(NodeChange::RemoveLabel { key: key.into(), was: was.clone() }),
    }
}
