//! A node's kernel, its NICs and its agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cxi_api::{
    NodeReport, Timestamp,
    names::Role,
    node_report::{Link, LoadedModule, Nic, OpenFile},
};

use cxi_rollout::world::PodState;

use crate::sim::{Sim, kmm::KmmNode, seconds};

/// The modules of the stack, what is used last.
pub const STACK: [&str; 5] = cxi_api::KernelModule::names(cxi_api::KernelModule::UNLOAD);

/// What is really so on a node.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
pub struct Machine {
    /// Loaded modules with their build-ids.
    pub modules: BTreeMap<String, String>,
    /// Release that is loaded whole.
    pub loaded: Option<String>,
    /// Since when.
    pub loaded_at: Option<Timestamp>,
    /// Image of the validation pod that was started last.
    pub validates: Option<String>,
    /// How many validation pods were started.
    pub validations: usize,
    /// PCI addresses; each NIC with whether it has a cable.
    pub nics: BTreeMap<String, bool>,
    /// How long links take to come up.
    pub link_delay: Duration,
    /// Processes outside Kubernetes that open the device whenever it is there.
    pub processes: Vec<Process>,
    /// KMM's part.
    pub kmm: KmmNode,
    /// When a reboot is over.
    pub boots_until: Option<Timestamp>,
    /// Releases that do not load here.
    pub bad_versions: BTreeSet<String>,
    /// Releases that load as another release (a wrong image).
    pub impostors: BTreeMap<String, String>,
    /// Releases with which the links stay down.
    pub dark_versions: BTreeSet<String>,
    /// Whether the agent is dead.
    pub agent_silent: bool,
    /// Whether its NICs are virtual functions in a virtual machine, where nothing tells their links.
    pub in_guest: bool,
    /// References to the devices that no process shows.
    pub hidden: i32,
    /// Whether one-shot pods cannot get their image here.
    pub pull_fails: bool,
    /// Whether the registry says that the images of one-shot pods are not there, although KMM has seen them.
    pub image_unknown: bool,
    /// Why the kubelet ends one-shot pods before they have run, if it does.
    pub refuses_pods: Option<String>,
    /// Whether the clean-up pod fails.
    pub cleanup_fails: bool,
    /// Release with which the device plugin offers nothing.
    pub plugin_broken_with: Option<String>,
    /// Whether the device plugin is being replaced: its pod is not there.
    pub plugin_away: bool,
    /// With this release the device plugin leaves out one place.
    pub plugin_lame_with: Option<String>,
    /// Whether the retry handler does not end when it is told to.
    pub retry_handler_stays: bool,
    /// Whether the retry handler runs and attaches to no NIC.
    pub retry_handler_fails: bool,
    /// Value of the gate with which the retry handler was started: it stands for its image.
    pub serves: Option<String>,
    /// Release that the host loads at boot.
    pub host_driver: Option<String>,
    /// What the device plugin was last told to offer.
    pub advertise: cxi_api::Advertise,
    /// Counts reports.
    pub sequence: i64,
    /// What the agent read before it looked; nothing before its first round in this boot.
    pub agent_read: Option<AgentRead>,
    /// When the report that is in the API was made (the agent's look), in true time.
    pub reported_at: Option<Timestamp>,
}

/// What an agent reads before it looks.
#[derive(Clone, Copy, Debug)]
pub struct AgentRead {
    /// `status.rollout.since`.
    pub since: Option<Timestamp>,
}

/// A process outside Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub command: String,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            modules: BTreeMap::new(),
            loaded: None,
            validates: None,
            validations: 0,
            loaded_at: None,
            nics: [("0000:21:00.0".to_owned(), true), ("0000:a1:00.0".to_owned(), true)].into(),
            link_delay: seconds(3),
            processes: Vec::new(),
            kmm: KmmNode::default(),
            boots_until: None,
            bad_versions: BTreeSet::new(),
            impostors: BTreeMap::new(),
            dark_versions: BTreeSet::new(),
            agent_silent: false,
            hidden: 0,
            in_guest: false,
            pull_fails: false,
            image_unknown: false,
            refuses_pods: None,
            cleanup_fails: false,
            plugin_broken_with: None,
            plugin_lame_with: None,
            plugin_away: false,
            retry_handler_stays: false,
            retry_handler_fails: false,
            serves: None,
            host_driver: None,
            advertise: cxi_api::Advertise::All,
            sequence: 0,
            agent_read: None,
            reported_at: None,
        }
    }
}

/// The build-id of a module of a release for a kernel.
pub fn build_id(version: &str, kernel: &str, module: &str) -> String {
    let text = format!("{version}/{kernel}/{module}");
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

impl Machine {
    /// Puts a whole release in.
    pub fn insert(&mut self, version: &str, kernel: &str, now: Timestamp) {
        let version = self.impostors.get(version).cloned().unwrap_or_else(|| version.to_owned());
        self.modules = STACK.iter().map(|name| ((*name).to_owned(), build_id(&version, kernel, name))).collect();
        self.loaded = Some(version);
        self.loaded_at = Some(now);
    }

    /// Puts in what a failing load leaves behind.
    pub fn insert_partly(&mut self, version: &str, kernel: &str) {
        for name in ["cxi_sl", "cxi_sbl"] {
            self.modules.insert(name.into(), build_id(version, kernel, name));
        }
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.modules.clear();
        self.loaded = None;
        self.loaded_at = None;
    }

    /// NICs as the agent sees them.
    pub fn devices(&self, now: Timestamp) -> Vec<Nic> {
        let Some(version) = &self.loaded else { return Vec::new() };
        let settled = self.loaded_at.is_some_and(|at| now.duration_since(at).unsigned_abs() >= self.link_delay);
        let nics = self.nics.iter().enumerate();
        nics.map(|(number, (address, cable))| Nic {
            name: format!("cxi{number}"),
            pci_address: address.clone(),
            link: if self.in_guest {
                Link::Unknown
            } else if settled && *cable && !self.dark_versions.contains(version) {
                Link::Up
            } else {
                Link::Down
            },
            virtual_function: self.in_guest,
            retry_handler_failed: None,
        })
        .collect()
    }

    /// How many links are up.
    pub fn links_up(&self, now: Timestamp) -> usize {
        self.devices(now).iter().filter(|nic| nic.is_linked()).count()
    }
}

impl Sim {
    /// Who has the device open on a node, of the pods that run there and the host's processes.
    pub fn open_files(&self, node: &str) -> Vec<OpenFile> {
        let machine = &self.machines[node];
        if machine.loaded.is_none() {
            return Vec::new();
        }
        let idle = |name: &str| self.workloads.iter().any(|workload| workload.name == name && workload.idle);
        let pods = self.accepted_on(node).filter(|pod| !idle(&pod.workload));
        let of_pods = pods.map(|pod| OpenFile {
            device: "cxi0".into(),
            pid: 4000,
            command: "job".into(),
            pod_uid: Some(pod.holder.uid.clone()),
        });
        let of_host = machine.processes.iter().map(|process| OpenFile {
            device: "cxi0".into(),
            pid: process.pid,
            command: process.command.clone(),
            pod_uid: None,
        });
        let handlers = self.api.nodes[node]
            .pods
            .iter()
            .filter(|pod| pod.role == Role::RetryHandler && matches!(pod.state, PodState::Running { .. }));
        let of_handlers = handlers.map(|pod| OpenFile {
            device: "cxi0".into(),
            pid: 5000,
            command: "cxi_rh".into(),
            pod_uid: Some(pod.uid.clone()),
        });
        of_pods.chain(of_handlers).chain(of_host).collect()
    }

    /// The agent: reads what phase its node is in, looks, and in the next tick writes what it saw.
    pub fn agent(&mut self, name: &str) {
        if self.dawdles() {
            return;
        }
        let node = self.node(name);
        let machine = &self.machines[name];
        if machine.agent_silent || machine.boots_until.is_some() {
            return;
        }
        let Some(record) = &node.record else { return };
        let since = record.rollout.as_ref().map(|rollout| rollout.since);
        let old = record.report.clone();
        let Some(read) = machine.agent_read else {
            self.machine_mut(name).agent_read = Some(AgentRead { since });
            return;
        };
        let report = NodeReport {
            kernel: node.kernel.clone(),
            boot_id: node.boot_id.clone(),
            observed_at: self.now,
            sequence: machine.sequence + 1,
            acknowledged: read.since.filter(|_| machine.hidden == 0),
            modules: machine
                .modules
                .iter()
                .map(|(name, build_id)| LoadedModule {
                    name: name.clone(),
                    build_id: build_id.clone(),
                    refcount: if name == "cxi_user" { machine.hidden } else { 0 },
                    holders: Vec::new(),
                })
                .collect(),
            driver_version: machine.loaded.clone(),
            open_files: self.open_files(name),
            devices: machine.devices(self.now),
            kernel_messages: Vec::new(),
        };
        let now = self.now;
        let machine = self.machine_mut(name);
        machine.agent_read = Some(AgentRead { since });
        let same = old.as_ref().is_some_and(|old| {
            NodeReport { observed_at: old.observed_at, sequence: old.sequence, ..report.clone() } == *old
        });
        machine.reported_at = Some(now);
        if !same {
            machine.sequence += 1;
            if let Some(record) = &mut self.node_mut(name).record {
                record.report = Some(report);
            }
        }
    }
}
