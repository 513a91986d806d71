//! What administrators and fate do.

use cxi_api::names::{DRIVER_LABEL, UPGRADE_LABEL, kmm_version_label, module_name};

use crate::sim::{NAMESPACE, Process, SELECTOR, Sim, seconds};

impl Sim {
    /// The machine goes down and comes back with nothing loaded.
    pub fn reboot(&mut self, name: &str) {
        let kernel = self.node(name).kernel.clone();
        self.reboot_into(name, &kernel);
    }

    /// The machine comes back with another kernel.
    pub fn reboot_into(&mut self, name: &str, kernel: &str) {
        let boot_id = self.uid("boot");
        let until = self.now + seconds(5);
        let machine = self.machine_mut(name);
        machine.clear();
        machine.processes.clear();
        machine.boots_until = Some(until);
        machine.agent_read = None;
        // KMM's worker pods start again from the beginning.
        machine.kmm.workers.clear();
        self.pods.retain(|pod| pod.node != name);
        let node = self.node_mut(name);
        node.ready = false;
        node.boot_id = boot_id;
        node.kernel = kernel.into();
        node.allocatable.clear();
        self.project_workers(name);
        self.project_holders();
    }

    /// The Node object goes, and with it (by the garbage collector) its CXINode.
    pub fn delete_node(&mut self, name: &str) {
        self.api.nodes.remove(name);
        self.machines.remove(name);
        self.hidden.remove(name);
        self.versions.remove(name);
        self.pods.retain(|pod| pod.node != name);
        self.operator.looks.forget(name);
        self.project_holders();
    }

    /// A node's record is there, and cannot be read.
    pub fn blind(&mut self, name: &str) {
        if let Some(record) = self.node_mut(name).record.take() {
            self.node_mut(name).unreadable = Some(format!("CXINode {name}: status.rollout.since is not a time"));
            self.hidden.insert(name.to_owned(), record);
        }
    }

    /// It can be read again.
    pub fn reveal(&mut self, name: &str) {
        if let Some(record) = self.hidden.remove(name) {
            self.node_mut(name).unreadable = None;
            self.node_mut(name).record = Some(record);
        }
    }

    pub fn label(&mut self, name: &str, key: &str, value: &str) {
        self.node_mut(name).labels.insert(key.into(), value.into());
    }

    pub fn unlabel(&mut self, name: &str, key: &str) {
        self.node_mut(name).labels.remove(key);
    }

    /// `kubectl label node … cxi.hpe.com/upgrade=…`.
    pub fn ask(&mut self, name: &str, request: &str) {
        self.label(name, UPGRADE_LABEL, request);
    }

    /// The node is not selected any more.
    pub fn deselect(&mut self, name: &str) {
        self.unlabel(name, SELECTOR);
    }

    pub fn select(&mut self, name: &str) {
        self.label(name, SELECTOR, "true");
    }

    /// `kubectl delete cxidriver`.
    pub fn delete_driver(&mut self, name: &str) {
        let driver = self.driver_mut(name);
        driver.deleting = true;
        driver.generation += 1;
        if !driver.finalizer {
            let name = name.to_owned();
            self.api.drivers.retain(|driver| driver.name != name);
        }
    }

    /// `kubectl annotate cxidriver … cxi.hpe.com/resume=<id>`.
    pub fn resume(&mut self) {
        let id = self.driver().status.rollout.as_ref().map(|rollout| rollout.id.clone());
        self.driver_mut("cxi").resume = id;
    }

    /// A process outside Kubernetes opens the device.
    pub fn open_device(&mut self, name: &str, command: &str) {
        self.machine_mut(name).processes.push(Process { pid: 4711, command: command.into() });
    }

    pub fn close_device(&mut self, name: &str) {
        self.machine_mut(name).processes.clear();
    }

    /// Sets a version label by hand; the oracle is told, because what comes of it is not our doing.
    pub fn version_label_by_hand(&mut self, name: &str, version: &str) {
        let revision = self.api.revisions.iter().find(|known| known.version == version).expect("a Module").id.clone();
        self.oracle.by_hand(name);
        self.label(name, &kmm_version_label(NAMESPACE, &module_name(&revision)), revision.as_str());
    }

    /// Removes all version labels by hand.
    pub fn remove_version_labels_by_hand(&mut self, name: &str) {
        self.oracle.by_hand(name);
        for (key, _) in crate::sim::apply::version_labels(self.node(name)) {
            self.unlabel(name, &key);
        }
    }

    /// An image is missing from the registry, or there again.
    pub fn image(&mut self, version: &str, kernel: &str, exists: bool) {
        let key = (version.to_owned(), kernel.to_owned());
        if exists {
            self.missing.remove(&key);
        } else {
            self.missing.insert(key);
        }
    }

    pub fn owner(&self, name: &str) -> Option<&str> {
        self.node(name).labels.get(DRIVER_LABEL).map(String::as_str)
    }
}
