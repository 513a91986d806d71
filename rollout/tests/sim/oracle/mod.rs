//! The judge. It checks the invariants of the rollout on what is written and what is so, after each write and in each tick,
//! without any of the engine's code: it has its own idea of what a node in service is, who holds the device, and when.
//! A violation panics, unless somebody wants to read it (`collect`).

mod budget;
mod safety;
mod truth;

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::{Timestamp, node_report::OpenFile};
use cxi_rollout::{
    Action, Plan,
    world::{Driver, Look},
};

use crate::sim::{Seen, Sim};

/// What the judge remembers.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// Whether violations are collected instead of ending the test.
    pub collect: bool,
    /// What was collected.
    pub violations: Vec<String>,
    /// When the device was last seen to be offered or held on a node, by name.
    busy: BTreeMap<String, Timestamp>,
    /// Clean looks by node: operator's clock and true time.
    looks: BTreeMap<String, Vec<Timestamp>>,
    /// Unloads ordered: UID of the record, attempt, boot and revision.
    unloads: BTreeSet<(String, i32, String, String)>,
    /// Nodes whose version labels somebody changed by hand; what KMM makes of that is not ours.
    by_hand: BTreeSet<String>,
    /// Nodes on which an unload was refused by the kernel because of a pod.
    refused: BTreeSet<String>,
}

impl Oracle {
    /// The kernel refused to let the driver go.
    pub fn unload_refused(&mut self, node: &str, files: &[OpenFile]) {
        if files.iter().any(|file| file.pod_uid.is_some()) {
            self.refused.insert(node.to_owned());
        }
    }

    /// Somebody changes version labels of a node by hand.
    pub fn by_hand(&mut self, node: &str) {
        self.by_hand.insert(node.to_owned());
    }

    #[track_caller]
    fn blame(&mut self, invariant: &str, what: &str) {
        let text = format!("{invariant}: {what}");
        assert!(self.collect, "the oracle: {text}");
        self.violations.push(text);
    }
}

impl Sim {
    /// Blames the operator when `fine` is false.
    #[track_caller]
    fn demand(&mut self, fine: bool, invariant: &str, what: impl FnOnce() -> String) {
        if !fine {
            self.oracle.blame(invariant, &what());
        }
    }

    /// Checks a plan as a whole: never two writes to one object.
    pub fn oracle_plan(&mut self, plan: &Plan) {
        let mut targets = BTreeSet::new();
        for action in &plan.actions {
            let target = match action {
                Action::PatchNode { node, .. } | Action::Unload { node, .. } | Action::Load { node, .. } => {
                    format!("node {node}")
                }
                Action::WriteRollout { node, .. }
                | Action::CreateRecord { node, .. }
                | Action::DeleteRecord { node, .. } => format!("record {node}"),
                Action::WriteDriverStatus { driver, .. } => format!("status {driver}"),
                Action::AddFinalizer { driver } | Action::RemoveFinalizer { driver } => format!("driver {driver}"),
                Action::DeleteOwnPod { uid, .. } => format!("pod {uid}"),
                Action::Evict { pod, .. } | Action::ForceDelete { pod, .. } => format!("pod {}", pod.uid),
                _ => continue,
            };
            let once = targets.insert(target.clone());
            self.demand(once, "plan", || format!("two writes to {target}: {:?}", plan.actions));
        }
    }

    /// Checks one write, after it was made.
    pub fn oracle_after(&mut self, action: &Action, seen: &Seen, before: Option<&Driver>) {
        match action {
            Action::Unload { node, value, .. } => self.check_unload(node, value, seen),
            Action::Load { node, value, .. } => self.check_load(node, value),
            Action::Evict { node, driver, pod } => self.check_eviction(node, driver, pod, seen, false),
            Action::ForceDelete { node, driver, pod, .. } => self.check_eviction(node, driver, pod, seen, true),
            Action::PatchNode { node, changes, .. } => self.check_patch(node, changes, seen),
            Action::WriteDriverStatus { driver, status, .. } => self.check_status(driver, status, seen, before),
            Action::WriteRollout { node, was, now, .. } => self.check_record(node, was.as_deref(), now),
            Action::DeleteModule { revision } => self.check_module_deletion(revision, seen),
            Action::RemoveFinalizer { driver } => self.check_end(driver, seen),
            _ => {}
        }
        self.check_labels();
    }

    /// Remembers a look.
    pub fn oracle_look(&mut self, node: &str, look: &Look) {
        let now = self.now;
        let looks = self.oracle.looks.entry(node.to_owned()).or_default();
        // What the kubelet has not accepted has no NIC, and gets none on a closed node.
        let held = look.holders.iter().any(|holder| holder.started);
        if !held && look.allocatable == 0 && look.plugin_pods == 0 && look.retry_handler_pods == 0 {
            looks.push(now);
        } else {
            looks.clear();
        }
    }

    /// Checks what is so, in each tick.
    pub fn oracle_state(&mut self) {
        self.check_labels();
        self.watch_devices();
        self.check_kernel();
    }

    /// Checks a cluster in which nothing happens any more.
    pub fn oracle_quiet(&mut self) {
        self.check_counters();
        self.check_explained();
    }
}
