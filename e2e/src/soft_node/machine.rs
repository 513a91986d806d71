//! The machine under a soft node: kernel, driver, NICs, processes and pulled images.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    driver_model::{BuildOf, DriverModel, LoadEffect, LoadFault, Registry, Resolved, kernel_tag},
    truth::Fact,
};

use super::{
    plan::{ContainerPlan, PodPlan, Work, WorkerPlan},
    plugin::Allocation,
    shape::{HostDriver, NodeShape, Pace},
};

/// First process id that is given out; below are the host's own.
const FIRST_PID: i32 = 4_000;

/// Owner of a driver that the host brings.
pub(crate) const HOST: &str = "host";

/// Faults of one machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) registry_unreachable: bool,
    pub(crate) load: Option<LoadFault>,
    /// Releases with which the links do not come up.
    pub(crate) links_down: BTreeSet<String>,
    /// How the retry handler of the first NIC ended unasked, if it did.
    pub(crate) retry_handler: Option<String>,
    /// By how much everything takes longer.
    pub(crate) slowness: u32,
}

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Pod as `namespace/name`, or the command of a host process.
    pub(crate) name: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) boot_id: String,
    pub(crate) nics: usize,
    host_driver: Option<HostDriver>,
    pub(crate) driver: DriverModel,
    /// KMM Module that brought the driver in, or [`HOST`].
    pub(crate) owner: Option<String>,
    links_up_at: Duration,
    /// Images that were pulled.
    images: BTreeSet<String>,
    /// What pods were given, by UID.
    pub(crate) allocations: BTreeMap<String, Vec<Allocation>>,
    /// Pods whose process runs with devices open, by UID.
    pub(crate) open: BTreeMap<String, Process>,
    /// Processes outside Kubernetes with a device open.
    pub(crate) processes: Vec<Process>,
    next_pid: i32,
    pub(crate) faults: Faults,
    pub(crate) facts: Vec<Fact>,
}

impl Machine {
    /// A machine that has just booted.
    pub(crate) fn new(shape: &NodeShape, boot_id: String) -> Self {
        let faults = Faults { slowness: 1, ..Faults::default() };
        let mut machine = Self {
            kernel: shape.kernel.clone(),
            boot_id: String::new(),
            nics: shape.nics,
            host_driver: shape.host_driver.clone(),
            driver: DriverModel::default(),
            owner: None,
            links_up_at: Duration::ZERO,
            images: BTreeSet::new(),
            allocations: BTreeMap::new(),
            open: BTreeMap::new(),
            processes: Vec::new(),
            next_pid: FIRST_PID,
            faults,
            facts: Vec::new(),
        };
        machine.boot(boot_id, None);
        machine
    }

    /// Starts anew: no modules, no processes; images and device allocations are on disk and stay.
    pub(crate) fn boot(&mut self, boot_id: String, kernel: Option<String>) {
        for uid in std::mem::take(&mut self.open).into_keys() {
            self.facts.push(Fact::Closed { uid });
        }
        self.driver.reset();
        self.owner = None;
        self.processes.clear();
        self.boot_id = boot_id;
        if let Some(kernel) = kernel {
            self.kernel = kernel;
        }
        self.facts.push(Fact::Booted { boot_id: self.boot_id.clone(), kernel: self.kernel.clone() });
        if self.host_driver.as_ref().is_some_and(|driver| driver.at_boot) {
            // A host boots on without its driver.
            let _ = self.load_host_driver(Duration::ZERO);
        }
    }

    // === images ===

    /// Whether the container's image is on the node, pulling it if it can be had.
    pub(crate) fn pull(&mut self, pod: &PodPlan, container: &ContainerPlan, registry: &Registry) -> bool {
        let image = &container.image;
        if self.images.contains(image) && !container.always_pull {
            return true;
        }
        let there =
            if pod.needs_known_images() { registry.find(image).is_some() } else { !registry.is_withdrawn(image) };
        if there && !self.faults.registry_unreachable {
            self.images.insert(image.clone());
            return true;
        }
        false
    }

    /// Removes an image from the node, as the kubelet's garbage collection does.
    pub(crate) fn forget_image(&mut self, image: &str) {
        self.images.remove(image);
    }

    // === NICs ===

    /// PCI address of a NIC.
    pub(crate) fn pci_address(nic: usize) -> String {
        format!("0000:{:02x}:00.0", 0x21 + nic * 0x20)
    }

    /// Number of NICs that the driver has bound.
    pub(crate) fn bound_nics(&self) -> usize {
        if self.driver.bound().is_some() { self.nics } else { 0 }
    }

    /// Whether the links are up.
    pub(crate) fn links_up(&self, now: Duration) -> bool {
        self.driver
            .bound()
            .is_some_and(|build| now >= self.links_up_at && !self.faults.links_down.contains(&build.version))
    }

    /// When the links come up, if they are on their way.
    pub(crate) fn links_due(&self, now: Duration) -> Option<Duration> {
        (self.driver.bound().is_some() && self.links_up_at > now).then_some(self.links_up_at)
    }

    /// The device ids of a resource that pods have.
    pub(crate) fn allocated(&self, resource: &str) -> BTreeSet<String> {
        let allocations = self.allocations.values().flatten().filter(|allocation| allocation.resource == resource);
        allocations.flat_map(|allocation| &allocation.ids).cloned().collect()
    }

    // === processes ===

    pub(crate) fn open_devices(&mut self, pod: &PodPlan) {
        let serves = pod.work == Work::RetryHandler && self.driver.bound().is_some();
        if (serves || self.allocations.contains_key(&pod.uid)) && !self.open.contains_key(&pod.uid) {
            let name = format!("{}/{}", pod.namespace, pod.name);
            self.facts.push(Fact::Opened { uid: pod.uid.clone(), pod: name.clone() });
            let pid = self.pid();
            self.open.insert(pod.uid.clone(), Process { pid, name });
        }
    }

    pub(crate) fn close_devices(&mut self, uid: &str) {
        if self.open.remove(uid).is_some() {
            self.facts.push(Fact::Closed { uid: uid.to_owned() });
        }
    }

    /// Whether a retry handler serves the NICs: it has them open and was given none.
    pub(crate) fn is_served(&self) -> bool {
        self.open.keys().any(|uid| !self.allocations.contains_key(uid))
    }

    pub(crate) fn start_process(&mut self, command: &str) {
        let pid = self.pid();
        self.processes.push(Process { pid, name: command.to_owned() });
    }

    pub(crate) fn open_files(&self) -> usize {
        self.open.len() + self.processes.len()
    }

    fn pid(&mut self) -> i32 {
        self.next_pid += 1;
        self.next_pid
    }

    // === modules ===

    /// What KMM's worker does to load: an error is the text with which it fails.
    pub(crate) fn load(
        &mut self,
        plan: &WorkerPlan,
        registry: &Registry,
        now: Duration,
        pace: &Pace,
    ) -> Result<(), String> {
        let Some(Resolved::Driver { build, .. }) = registry.inspect(&plan.image) else {
            return Err(format!("{} is not a driver image", plan.image));
        };
        // The worker copies /lib/modules/<kernel of the configuration>, modprobe looks for that of the running kernel.
        let carried = BuildOf {
            kernel: if plan.kernel == self.kernel { build.kernel } else { kernel_tag(&plan.kernel) },
            version: build.version,
        };
        self.insert(&carried, &plan.owner, now + pace.link_up * self.faults.slowness)
    }

    /// What the host's `modprobe` does with the driver that the host brings; the links are up from `links_up_at` on.
    pub(crate) fn load_host_driver(&mut self, links_up_at: Duration) -> Result<(), String> {
        let Some(driver) = &self.host_driver else {
            return Err(format!("modprobe: FATAL: Module cxi_ss1 not found in directory /lib/modules/{}", self.kernel));
        };
        let build = BuildOf { version: driver.version.clone(), kernel: kernel_tag(&self.kernel) };
        self.insert(&build, HOST, links_up_at)
    }

    fn insert(&mut self, build: &BuildOf, owner: &str, links_up_at: Duration) -> Result<(), String> {
        let owner = owner.to_owned();
        let version = build.version.clone();
        match self.driver.load(build, &kernel_tag(&self.kernel), self.faults.load.as_ref()) {
            Ok(LoadEffect::Loaded(modules)) => {
                self.owner = Some(owner.clone());
                self.links_up_at = links_up_at;
                self.facts.push(Fact::Loaded { owner, version, modules: owned(&modules) });
                Ok(())
            }
            Ok(LoadEffect::NoEffect) => {
                let running = self.driver.bound().map(|b| b.version.clone()).unwrap_or_default();
                self.facts.push(Fact::LoadedAlready { owner, version, running });
                Ok(())
            }
            Err(error) => {
                let left: Vec<&str> = self.driver.modules().iter().map(|m| m.name).collect();
                if !left.is_empty() && self.owner.is_none() {
                    self.owner = Some(owner.clone());
                }
                let message = error.to_string();
                self.facts.push(Fact::LoadFailed { owner, version, message: message.clone(), left: owned(&left) });
                Err(message)
            }
        }
    }

    /// What KMM's worker does to unload.
    pub(crate) fn unload(&mut self, plan: &WorkerPlan) -> Result<(), String> {
        let owner = plan.owner.clone();
        match self.driver.unload(self.open_files()) {
            Ok(modules) => {
                self.owner = None;
                self.facts.push(Fact::Unloaded { owner, modules: owned(&modules) });
                Ok(())
            }
            Err(error) => {
                self.facts.push(Fact::UnloadRefused {
                    owner,
                    pods: self.open.values().map(|p| p.name.clone()).collect(),
                    processes: self.processes.iter().map(|p| p.name.clone()).collect(),
                });
                Err(error.to_string())
            }
        }
    }

    /// What a clean-up pod does.
    pub(crate) fn clean_up(&mut self, modules: &[String]) -> Result<(), String> {
        let before: Vec<&str> = self.driver.modules().iter().map(|m| m.name).collect();
        let result = self.driver.remove(modules, self.open_files());
        let gone: Vec<&str> =
            before.into_iter().filter(|n| self.driver.modules().iter().all(|m| m.name != *n)).collect();
        if !gone.is_empty() {
            self.facts.push(Fact::CleanedUp { modules: owned(&gone) });
        }
        if self.driver.modules().is_empty() {
            self.owner = None;
        }
        result.map(|_| ()).map_err(|error| error.to_string())
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
