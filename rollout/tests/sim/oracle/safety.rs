//! I2 no pull under load, I3 no false advertising, I4 one driver, I5 nothing twice, I6 eviction only, I10 someone else's
//! fields.

use cxi_api::{
    NodeRollout, Phase, RevisionId,
    names::{DRIVER_LABEL, DRIVER_VERSION_LABEL, Role, UPGRADE_PENDING_TAINT, device_plugin_gate, retry_handler_gate},
    strategy::{DrainPolicy, OnTimeout},
};
use cxi_rollout::{
    action::NodeChange,
    world::{Driver, Holder, Node},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::sim::{Seen, Sim, apply::version_labels, seconds};

impl Sim {
    /// Notes when a device was last offered, or held by a pod.
    pub(super) fn watch_devices(&mut self) {
        let now = self.now;
        for (name, node) in &self.api.nodes {
            let offered = node.allocatable.values().any(|count| *count > 0);
            let plugin = node.pods.iter().any(|pod| matches!(pod.role, Role::DevicePlugin | Role::RetryHandler));
            let held = self.accepted_on(name).next().is_some();
            if offered || plugin || held {
                self.oracle.busy.insert(name.clone(), now);
            }
        }
    }

    /// I2 and I5: a driver is taken out only where nobody holds it, and that was looked at twice; and only once.
    pub(super) fn check_unload(&mut self, name: &str, revision: &str, seen: &Seen) {
        let node = self.node(name).clone();
        let holders: Vec<String> = self.accepted_on(name).map(|pod| pod.holder.name.clone()).collect();
        self.demand(holders.is_empty(), "I2", || format!("{name} is unloaded while {holders:?} hold the device"));
        let offered = node.allocatable.values().any(|count| *count > 0);
        self.demand(!offered, "I2", || format!("{name} is unloaded while the resource is offered"));
        let gone = self.oracle.busy.get(name).copied();
        let looks = self.oracle.looks.get(name).cloned().unwrap_or_default();
        let after: Vec<_> = looks.into_iter().filter(|at| gone.is_none_or(|gone| *at > gone)).collect();
        let gap = self.settings.look_gap;
        let twice = after.iter().any(|a| after.iter().any(|b| b.duration_since(*a).unsigned_abs() >= gap));
        self.demand(twice, "I2", || format!("{name} is unloaded after clean looks at {after:?} only"));
        let reported = self.machines[name].reported_at;
        let fresh = reported.is_some_and(|at| gone.is_none_or(|gone| at > gone));
        self.demand(fresh, "I2", || format!("{name} is unloaded on a report of {reported:?}, closed at {gone:?}"));
        let Some(record) = seen.nodes.get(name).and_then(Node::rollout) else {
            return self.oracle.blame("I5", &format!("{name} is unloaded without a record"));
        };
        self.demand(record.phase == Phase::Unloading, "I5", || format!("{name} is unloaded in {}", record.phase));
        let record_uid = node.record.as_ref().map(|record| record.uid.clone()).unwrap_or_default();
        let key = (record_uid, record.attempt, node.boot_id.clone(), revision.to_owned());
        let first = self.oracle.unloads.insert(key) || self.oracle.by_hand.contains(name);
        self.demand(first, "I5", || format!("{name}: revision {revision} is unloaded twice in one attempt"));
    }

    /// I4: a driver is put in only where none is.
    pub(super) fn check_load(&mut self, name: &str, revision: &str) {
        let modules = self.machines[name].modules.clone();
        self.demand(modules.is_empty(), "I4", || format!("{name} loads {revision} with {modules:?} in the kernel"));
        let record = self.node(name).record.as_ref().map(|record| record.uid.clone()).unwrap_or_default();
        // What was loaded again may be unloaded again.
        self.oracle.unloads.retain(|unload| (unload.0.as_str(), unload.3.as_str()) != (record.as_str(), revision));
        let workers = self.machines[name].kmm.workers.len();
        self.demand(workers == 0, "I4", || format!("{name} loads {revision} beside a worker"));
        let labels = version_labels(self.node(name));
        self.demand(labels.len() == 1, "I4", || format!("{name} has labels {labels:?}"));
    }

    /// I4: never labels of two Modules.
    pub(super) fn check_labels(&mut self) {
        let names = self.node_names();
        for name in names {
            let labels = version_labels(self.node(&name));
            let fine = labels.len() <= 1 || self.oracle.by_hand.contains(&name);
            self.demand(fine, "I4", || format!("{name} has the labels {labels:?}"));
        }
    }

    /// I2 as the kernel sees it: nothing asks it to let go of a driver that a pod uses.
    pub(super) fn check_kernel(&mut self) {
        let refused = std::mem::take(&mut self.oracle.refused);
        for name in refused {
            let fine = self.oracle.by_hand.contains(&name);
            self.demand(fine, "I2", || format!("KMM tried to unload {name} under a pod"));
        }
    }

    /// I6 and I8: who may be evicted, where and when.
    pub(super) fn check_eviction(&mut self, name: &str, driver: &str, pod: &Holder, seen: &Seen, forced: bool) {
        let Some(driver) = seen.drivers.iter().find(|known| known.name == driver) else { return };
        let drain = &driver.spec.update_strategy.drain;
        let force = drain.on_timeout == OnTimeout::Force;
        self.demand(!forced || force, "I6", || format!("{} is deleted without Force", pod.name));
        self.demand(drain.policy != DrainPolicy::WaitForCompletion || force, "I8", || {
            format!("{} is evicted although the policy is to wait", pod.name)
        });
        let asks = pod.resources.iter().any(|name| driver.resource_names().any(|known| known == name));
        self.demand(asks, "I8", || format!("{} does not hold the device", pod.name));
        let here = drain.protected_namespaces.is_empty() || drain.protected_namespaces.contains(&pod.namespace);
        let protected = here && drain.protected_pods.as_ref().is_some_and(|selector| means(selector, pod));
        self.demand(!protected, "I6", || format!("{} is protected", pod.name));
        self.demand(!pod.unreadable, "I6", || format!("{} cannot be read", pod.name));
        let excessive = forced && pod.ends.is_some_and(|ends| ends > self.clock() + drain.max_grace_period.0);
        self.demand(excessive || pod.ends.is_none(), "I6", || format!("{} ends already", pod.name));
        let record = seen.nodes.get(name).and_then(Node::rollout);
        let closed = record.is_some_and(|record| record.phase == Phase::Evicting);
        self.demand(closed, "I6", || format!("{} is evicted from {name}, which is not closed", pod.name));
    }

    /// I3 and I10: the gate carries what is loaded, and only our fields change.
    pub(super) fn check_patch(&mut self, name: &str, changes: &[NodeChange], seen: &Seen) {
        let gate = |driver: &Driver| [device_plugin_gate(&driver.name), retry_handler_gate(&driver.name)];
        let gates: Vec<String> = self.api.drivers.iter().flat_map(gate).collect();
        for change in changes {
            let ours = match change {
                NodeChange::SetLabel { key, .. } | NodeChange::RemoveLabel { key, .. } => {
                    [DRIVER_LABEL, DRIVER_VERSION_LABEL].contains(&key.as_str()) || gates.contains(key)
                }
                NodeChange::AddTaint { taint, .. } | NodeChange::RemoveTaint { taint, .. } => {
                    taint.key == UPGRADE_PENDING_TAINT
                }
            };
            self.demand(ours, "I10", || format!("{change:?} on {name} is not ours to make"));
            if let NodeChange::SetLabel { key, value, .. } = change
                && gates.contains(key)
            {
                self.check_gate(name, value, seen);
            }
            // Another value is another retry handler.
            let (NodeChange::RemoveLabel { key, was } | NodeChange::SetLabel { key, was: Some(was), .. }) = change
            else {
                continue;
            };
            let stays = matches!(change, NodeChange::SetLabel { value, .. } if value == was);
            if !stays
                && *key
                    == retry_handler_gate(
                        &seen.nodes[name].rollout().map(|record| record.driver.clone()).unwrap_or_default(),
                    )
            {
                self.check_retry_handler(name, seen);
            }
        }
    }

    /// Pods that hold a NIC keep their retry handler.
    fn check_retry_handler(&mut self, name: &str, seen: &Seen) {
        // Where no retry handler is wanted any more, a pod that was accepted a moment ago is one that came too late for it.
        let unwanted = seen.drivers.iter().all(|driver| !driver.spec.retry_handler.runs_on_nodes());
        let known = |uid: &str| !unwanted || seen.nodes[name].holders.iter().any(|holder| holder.uid == uid);
        let held = self.accepted_on(name).filter(|pod| known(&pod.holder.uid));
        let held: Vec<String> = held.map(|pod| pod.holder.name.clone()).collect();
        let orphaned = seen.drivers.iter().any(|driver| driver.deleting && driver.orphan);
        self.demand(held.is_empty() || orphaned, "I2", || format!("{name} loses its retry handler under {held:?}"));
    }

    fn check_gate(&mut self, name: &str, value: &str, seen: &Seen) {
        // A reboot may overtake a decision by a moment; then the kubelet has nothing to offer.
        let overtaken = seen.nodes.get(name).is_none_or(|node| node.boot_id != self.node(name).boot_id);
        let machine = &self.machines[name];
        let revision: Option<RevisionId> = value.parse().ok();
        let version = revision.as_ref().and_then(|revision| self.version_of(revision));
        let loaded = match (&version, &machine.loaded) {
            (Some(version), Some(loaded)) => version == loaded,
            // The host's driver: any will do.
            (None, loaded) => loaded.is_some(),
            (Some(_), None) => false,
        };
        let fine = loaded || overtaken || self.oracle.by_hand.contains(name);
        let (loaded, version) = (machine.loaded.clone(), version.clone());
        self.demand(fine, "I3", || format!("{name} is opened for {value} ({version:?}) with {loaded:?} loaded"));
    }

    /// I3 and the monotonic `since`: what a record may say.
    pub(super) fn check_record(&mut self, name: &str, was: Option<&NodeRollout>, now: &NodeRollout) {
        if let Some(was) = was {
            // What a clock that was ahead has written is put right.
            let ahead = was.since > self.clock() + seconds(60);
            self.demand(ahead || now.since >= was.since, "since", || {
                format!("{name}: {} after {}", now.since, was.since)
            });
            let moved = was.phase == now.phase || now.since != was.since;
            self.demand(moved, "since", || format!("{name} enters {} without a new time", now.phase));
            let overslept = now.revision.is_some() && now.revision == was.revision && was.boot_id != now.boot_id;
            self.demand(!overslept, "I3", || format!("{name} takes what was verified before a reboot for verified"));
            let same = was.driver == now.driver;
            self.demand(!same || now.attempt >= was.attempt, "I5", || format!("{name}: attempts run backwards"));
        }
        let in_service = matches!(now.phase, Phase::UpToDate | Phase::Returning);
        // A record that a hand has made so may be written once more before it is put right.
        let found_so = was.is_some_and(|was| was.phase == now.phase && was.revision.is_none());
        self.demand(!in_service || now.revision.is_some() || found_so, "I3", || {
            format!("{name} is {} on nothing", now.phase)
        });
        self.demand(now.history.len() <= 10, "I12", || format!("{name} has a long history"));
    }
}

/// Whether a selector of protected pods may mean a pod: what is no selector may mean any.
fn means(selector: &LabelSelector, pod: &Holder) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| pod.labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = pod.labels.get(&requirement.key);
            let listed = requirement.values.iter().flatten().any(|listed| Some(listed) == value);
            match requirement.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => true,
            }
        })
}
