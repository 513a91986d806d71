//! The operator's effects: each action becomes at most one write, with the guards that the real operator puts on it.

use std::collections::BTreeMap;

use cxi_api::{
    NodeRollout, Timestamp,
    names::{KMM_VERSION_PREFIX, Role},
};
use cxi_rollout::{
    Action,
    action::NodeChange,
    world::{Driver, Look, Node, OwnPod, PodState, Preflight, Record, Revision},
};

use crate::sim::{NAMESPACE, Seen, Sim};

/// Why a write was refused.
pub type Refused = &'static str;

impl Sim {
    /// Carries out one action that was decided on `seen`. Everything that the oracle has to say comes after.
    pub fn apply(&mut self, action: &Action, seen: &Seen) -> Result<(), Refused> {
        let before = match action {
            Action::WriteDriverStatus { driver, .. } => self.driver_named(driver).cloned(),
            _ => None,
        };
        let result = self.carry_out(action, seen);
        self.trace(action, result.err());
        self.count_versions();
        if result.is_ok() {
            if let Some(kind) = write_kind(action) {
                *self.writes.entry(kind).or_default() += 1;
            }
            self.oracle_after(action, seen, before.as_ref());
        }
        result
    }

    fn carry_out(&mut self, action: &Action, seen: &Seen) -> Result<(), Refused> {
        match action {
            Action::AddFinalizer { driver } => {
                let driver = self.same_driver(driver, seen)?;
                driver.finalizer = true;
            }
            Action::RemoveFinalizer { driver } => {
                let found = self.same_driver(driver, seen)?;
                found.finalizer = false;
                if found.deleting {
                    let name = driver.clone();
                    self.api.drivers.retain(|driver| driver.name != name);
                }
            }
            Action::CreateModule { driver, revision, spec } => self.create_module(driver, revision, &spec.version)?,
            Action::CreateContainerfile { driver, revision, .. } => {
                self.driver_named(driver).ok_or("gone")?;
                let refused = self.refuses_layouts.clone();
                self.driver_mut(driver).module_refused.clone_from(&refused);
                if refused.is_some() {
                    return Err("refused");
                }
                let found = self.api.revisions.iter_mut().find(|known| known.id == *revision).ok_or("gone")?;
                if std::mem::replace(&mut found.containerfile, true) {
                    return Err("exists");
                }
            }
            Action::AskForImages { preflight, uid, kernels, .. } => {
                let found = self.same_preflight(preflight, uid)?;
                if found.images.is_some() {
                    return Err("exists");
                }
                found.images = Some(BTreeMap::new());
                self.questions.insert(uid.clone(), kernels.clone());
            }
            Action::WritePreflightStatus { preflight, uid, status } => {
                let before = seen.preflights.iter().find(|known| known.uid == *uid).map(|known| known.status.clone());
                let found = self.same_preflight(preflight, uid)?;
                if Some(&found.status) != before.as_ref() {
                    return Err("the preflight changed");
                }
                found.status = (**status).clone();
            }
            Action::DeletePreflight { preflight, uid } => {
                self.same_preflight(preflight, uid)?;
                self.api.preflights.retain(|known| known.uid != *uid);
            }
            Action::DeleteModule { revision } => {
                let found = self.api.revisions.iter_mut().find(|known| known.id == *revision).ok_or("gone")?;
                found.deleting = true;
            }
            Action::ApplyOperands { driver, .. } => {
                let found = self.driver_named(driver).ok_or("gone")?;
                if found.spec.device_plugin.enabled {
                    let resource = found.spec.device_plugin.resource_name.clone();
                    self.daemonsets.insert(driver.clone(), resource);
                } else {
                    self.daemonsets.remove(driver);
                }
                self.driver_mut(driver).operands_current = true;
                self.driver_mut(driver).plugin_current = true;
            }
            Action::DeleteOperands { driver } => {
                self.daemonsets.remove(driver);
                if let Some(found) = self.api.drivers.iter_mut().find(|known| known.name == *driver) {
                    found.operands_current = false;
                }
            }
            Action::WriteDriverStatus { driver, status, .. } => {
                let found = self.same_driver(driver, seen)?;
                found.status = (**status).clone();
            }
            Action::CreateRecord { node, uid } => {
                let record_uid = self.uid("record");
                let found = self.same_uid(node, uid)?;
                if found.record.is_some() || found.stale_record.is_some() {
                    return Err("exists");
                }
                found.record = Some(Record { uid: record_uid, rollout: None, report: None });
            }
            Action::DeleteRecord { node, uid } => {
                let found = self.api.nodes.get_mut(node).ok_or("gone")?;
                if found.stale_record.as_ref() == Some(uid) {
                    found.stale_record = None;
                } else if found.record.as_ref().is_some_and(|record| record.uid == *uid) {
                    found.record = None;
                } else {
                    return Err("gone");
                }
            }
            Action::WriteRollout { node, uid, was, now } => {
                let found = self.api.nodes.get_mut(node).ok_or("gone")?;
                let record = found.record.as_mut().filter(|record| record.uid == *uid).ok_or("gone")?;
                if record.rollout.as_ref() != was.as_deref() {
                    return Err("the rollout is another");
                }
                record.rollout = Some((**now).clone());
            }
            _ => return self.carry_out_on_node(action, seen),
        }
        Ok(())
    }

    /// Writes to Nodes and to pods, and looks.
    fn carry_out_on_node(&mut self, action: &Action, seen: &Seen) -> Result<(), Refused> {
        match action {
            Action::PatchNode { node, uid, changes } => self.patch(node, uid, changes, seen)?,
            Action::Unload { node, uid, label, value, proof } => {
                if proof.node_uid() != uid {
                    return Err("proof of another node");
                }
                self.unchanged(node, seen)?;
                let found = self.same_uid(node, uid)?;
                if found.labels.get(label) != Some(value) {
                    return Err("the label is another");
                }
                found.labels.remove(label);
            }
            Action::Load { node, uid, label, value, proof } => {
                if proof.node_uid() != uid {
                    return Err("proof of another node");
                }
                self.unchanged(node, seen)?;
                self.same_uid(node, uid)?.labels.insert(label.clone(), value.clone());
            }
            Action::StartPrefetch { node, driver, revision, uid, .. } => {
                self.start_pod(node, uid, driver, Role::Prefetch, Some(revision.clone()))?;
            }
            Action::StartHostDriver { node, driver, uid, .. } => {
                self.start_pod(node, uid, driver, Role::HostDriver, None)?;
            }
            Action::StartCleanup { node, driver, uid, .. } => {
                self.start_pod(node, uid, driver, Role::Cleanup, None)?;
            }
            Action::StartValidation { node, driver, uid, revision, validation, .. } => {
                self.start_pod(node, uid, driver, Role::Validation, Some(revision.clone()))?;
                let machine = self.machine_mut(node);
                machine.validates = Some(validation.image.clone());
                machine.validations += 1;
            }
            Action::DeleteOwnPod { uid, .. } => {
                let pods = self.api.nodes.values_mut().flat_map(|node| &mut node.pods);
                let pod = pods.into_iter().find(|pod| pod.uid == *uid).ok_or("gone")?;
                pod.deleting = true;
            }
            Action::Evict { pod, .. } => {
                let now = self.clock();
                self.evict(&pod.uid, now);
            }
            Action::ForceDelete { pod, grace, .. } => self.end_pod_within(&pod.uid, *grace),
            Action::Look { node, resources, step } => self.look(node, resources, *step, seen)?,
            Action::Announce(announcement) => self.events.push(announcement.clone()),
            other => unreachable!("{other:?} is about an object"),
        }
        if matches!(action, Action::Evict { .. } | Action::ForceDelete { .. }) {
            self.project_holders();
        }
        Ok(())
    }

    fn create_module(&mut self, driver: &str, revision: &cxi_api::RevisionId, version: &str) -> Result<(), Refused> {
        if self.api.revisions.iter().any(|known| known.id == *revision) {
            return Err("exists");
        }
        self.driver_named(driver).ok_or("gone")?;
        let version = version.to_owned();
        let refused = self.refuses_modules.clone();
        self.driver_mut(driver).module_refused.clone_from(&refused);
        if refused.is_some() {
            for preflight in &mut self.api.preflights {
                preflight.module_refused.clone_from(&refused);
            }
            return Err("refused");
        }
        let created = self.now;
        self.api.revisions.push(Revision {
            driver: driver.to_owned(),
            id: revision.clone(),
            version,
            created,
            deleting: false,
            images: std::collections::BTreeMap::new(),
            containerfile: false,
        });
        Ok(())
    }

    fn start_pod(
        &mut self,
        node: &str,
        uid: &str,
        driver: &str,
        role: Role,
        revision: Option<cxi_api::RevisionId>,
    ) -> Result<(), Refused> {
        let pod_uid = self.uid("pod");
        let found = self.same_uid(node, uid)?;
        let name = format!("cxi-{}-{node}", role.as_str());
        if found.pods.iter().any(|pod| pod.name == name) {
            return Err("exists");
        }
        found.pods.push(OwnPod {
            role,
            driver: driver.to_owned(),
            revision,
            name,
            uid: pod_uid,
            state: PodState::Pending { image: None },
            deleting: false,
        });
        Ok(())
    }

    fn look(&mut self, node: &str, resources: &[String], step: Timestamp, seen: &Seen) -> Result<(), Refused> {
        let at = self.clock();
        let since = seen.nodes.get(node).and_then(Node::rollout).map(NodeRollout::evidence_from).ok_or("no record")?;
        let found = self.api.nodes.get(node).ok_or("gone")?;
        let offered = resources.iter().filter_map(|name| found.allocatable.get(name));
        let held = |holder: &&cxi_rollout::world::Holder| holder.resources.iter().any(|name| resources.contains(name));
        let look = Look {
            step,
            at,
            allocatable: offered.sum(),
            plugin_pods: found.pods.iter().filter(|pod| pod.role == Role::DevicePlugin).count(),
            retry_handler_pods: found.pods.iter().filter(|pod| pod.role == Role::RetryHandler).count(),
            holders: found.holders.iter().filter(held).cloned().collect(),
            report: found.record.as_ref().and_then(|record| record.report.clone()),
        };
        self.oracle_look(node, &look);
        self.operator.looks.add(node, since, look);
        Ok(())
    }

    fn patch(&mut self, node: &str, uid: &str, changes: &[NodeChange], seen: &Seen) -> Result<(), Refused> {
        if changes.iter().any(NodeChange::needs_unchanged_node) {
            self.unchanged(node, seen)?;
        }
        let found = self.same_uid(node, uid)?;
        let mut node = found.clone();
        for change in changes {
            match change {
                NodeChange::SetLabel { key, was, value } => {
                    if node.labels.get(key) != was.as_ref() {
                        return Err("the label is another");
                    }
                    node.labels.insert(key.clone(), value.clone());
                }
                NodeChange::RemoveLabel { key, was } => {
                    if node.labels.get(key) != Some(was) {
                        return Err("the label is another");
                    }
                    node.labels.remove(key);
                }
                NodeChange::AddTaint { was, taint } => {
                    if node.taints != *was {
                        return Err("the taints are others");
                    }
                    node.taints.push(taint.clone());
                }
                NodeChange::RemoveTaint { index, taint } => {
                    if node.taints.get(*index) != Some(taint) {
                        return Err("the taints are others");
                    }
                    node.taints.remove(*index);
                }
            }
        }
        *found = node;
        Ok(())
    }

    /// A driver that nobody wrote to since it was seen.
    fn same_driver(&mut self, name: &str, seen: &Seen) -> Result<&mut Driver, Refused> {
        let before = seen.drivers.iter().find(|driver| driver.name == name).ok_or("not seen")?;
        let found = self.api.drivers.iter_mut().find(|driver| driver.name == name).ok_or("gone")?;
        let version = |driver: &Driver| {
            let flags = (driver.deleting, driver.orphan, driver.finalizer);
            (driver.uid.clone(), driver.generation, flags, driver.resume.clone(), driver.status.clone())
        };
        if version(found) == version(before) { Ok(found) } else { Err("the driver changed") }
    }

    fn same_preflight(&mut self, name: &str, uid: &str) -> Result<&mut Preflight, Refused> {
        self.api.preflights.iter_mut().find(|known| known.name == name && known.uid == uid).ok_or("gone")
    }

    fn same_uid(&mut self, name: &str, uid: &str) -> Result<&mut Node, Refused> {
        self.api.nodes.get_mut(name).filter(|node| node.uid == uid).ok_or("the node is gone")
    }

    /// Nobody wrote to the Node since it was seen.
    fn unchanged(&self, name: &str, seen: &Seen) -> Result<(), Refused> {
        let (found, before) = (self.versions.get(name), seen.versions.get(name));
        let same = found.zip(before).is_some_and(|((found, _), before)| found == before);
        if same { Ok(()) } else { Err("the node changed") }
    }

    /// Gives every Node object that changed a new resource version.
    pub fn count_versions(&mut self) {
        for (name, node) in &self.api.nodes {
            // Everything that is not of the Node object itself is left out.
            let status =
                (node.ready, node.cordoned, node.kernel.clone(), node.boot_id.clone(), node.allocatable.clone());
            let object = (node.uid.clone(), node.labels.clone(), node.taints.clone(), status);
            match self.versions.get_mut(name) {
                Some((_, known)) if *known == object => {}
                _ => {
                    self.serial += 1;
                    self.versions.insert(name.clone(), (self.serial, object));
                }
            }
        }
    }
}

/// What a write is counted as; looks and Events are not writes.
fn write_kind(action: &Action) -> Option<&'static str> {
    Some(match action {
        Action::Look { .. } | Action::Announce(_) => return None,
        Action::WriteDriverStatus { .. } => "driver status",
        Action::WriteRollout { .. } => "node status",
        Action::PatchNode { .. } => "node labels",
        Action::Unload { .. } | Action::Load { .. } => "version label",
        Action::StartPrefetch { .. }
        | Action::StartCleanup { .. }
        | Action::StartHostDriver { .. }
        | Action::StartValidation { .. }
        | Action::DeleteOwnPod { .. } => "one-shot pods",
        Action::Evict { .. } | Action::ForceDelete { .. } => "evictions",
        _ => "objects",
    })
}

/// Version labels of our Modules on a node.
pub fn version_labels(node: &Node) -> Vec<(String, String)> {
    let prefix = format!("{KMM_VERSION_PREFIX}{NAMESPACE}.cxi-");
    let ours = node.labels.iter().filter(|(key, _)| key.starts_with(&prefix));
    ours.map(|(key, value)| (key.clone(), value.clone())).collect()
}
