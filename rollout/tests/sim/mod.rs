//! A cluster in memory. `api` is what the API server holds; `machines` is what nobody sees but through the agent; everything
//! that writes to the API (operator, KMM, kubelets, agents, scheduler) does so in steps that the caller puts in any order.

pub mod admin;
pub mod apply;
pub mod build;
pub mod jobs;
pub mod kmm;
pub mod kubelet;
pub mod machine;
pub mod oracle;
pub mod preflight;
pub mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cxi_api::{RevisionId, Timestamp};
use cxi_rollout::{
    Settings, World,
    action::Announcement,
    looks::{self, Looks},
    world::{ImageState, Node, Record, Refusal},
};

pub use jobs::{Budget, Kind, Pod, Workload};
pub use machine::{Machine, Process};
pub use oracle::Oracle;

/// Namespace of the operator.
pub const NAMESPACE: &str = "cxi-system";
/// Label that the drivers of the tests select by.
pub const SELECTOR: &str = "feature.node.kubernetes.io/pci-1590.present";
/// Kernel that nodes start with.
pub const KERNEL: &str = "6.12.1";
/// Resource that the tests' pods ask for.
pub const RESOURCE: &str = "hpe.com/cxi";

/// The cluster.
#[derive(Clone)]
pub struct Sim {
    /// True time.
    pub now: Timestamp,
    /// Time beyond which the clock does not jump.
    pub horizon: Option<Timestamp>,
    /// By how many seconds the operator's clock is wrong.
    pub skew: i64,
    /// Time limits of the engine.
    pub settings: Settings,
    /// What the API server holds; looks and refusals are not in it.
    pub api: World,
    /// Hidden state of each node, by name.
    pub machines: BTreeMap<String, Machine>,
    /// Kernels that KMM was asked about, by UID of the CXIPreflight.
    pub questions: BTreeMap<String, Vec<String>>,
    /// Resource that the device plugin's DaemonSet was applied with, by driver.
    pub daemonsets: BTreeMap<String, String>,
    /// Records that cannot be read, by node.
    pub hidden: BTreeMap<String, Record>,
    /// Controllers that make pods.
    pub workloads: Vec<Workload>,
    /// Pods that hold the resource, on all nodes.
    pub pods: Vec<Pod>,
    /// PodDisruptionBudgets.
    pub budgets: Vec<Budget>,
    /// Driver images that are not in the registry: version and kernel.
    pub missing: BTreeSet<(String, String)>,
    /// What KMM's webhook says to Modules, if it refuses them.
    pub refuses_modules: Option<String>,
    /// Why no Containerfile can be made of the layout that a CXIDriver names.
    pub refuses_layouts: Option<String>,
    /// How far KMM is with images that it builds, by release; they exist where it says nothing.
    pub building: BTreeMap<String, ImageState>,
    /// Versions whose images carry no manifest.
    pub foreign: BTreeSet<String>,
    /// Whether KMM's controllers run.
    pub kmm_runs: bool,
    /// The operator's memory, which a restart loses.
    pub operator: Operator,
    /// What was announced.
    pub events: Vec<Announcement>,
    /// The judge.
    pub oracle: Oracle,
    /// Writes by the operator.
    pub writes: BTreeMap<&'static str, usize>,
    /// Resource version of each Node, and what it had then.
    pub versions: BTreeMap<String, (u64, NodeObject)>,
    /// Counter behind UIDs.
    pub serial: u64,
    /// Dice; zero means that everybody does everything in each tick.
    pub dice: u64,
}

/// What makes a Node object, besides its name: UID, labels, taints and what its status says.
pub type NodeObject = (
    String,
    BTreeMap<String, String>,
    Vec<cxi_rollout::world::Taint>,
    (bool, bool, String, String, BTreeMap<String, i64>),
);

/// What an operator sees, and of which versions of the Nodes.
#[derive(Clone)]
pub struct Seen {
    world: World,
    versions: BTreeMap<String, u64>,
}

impl std::ops::Deref for Seen {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// What an operator remembers besides its caches.
#[derive(Clone, Default)]
pub struct Operator {
    /// Looks by node, with the phase that they belong to.
    pub looks: Looks,
    /// Refused evictions by pod UID.
    pub refusals: BTreeMap<String, Refusal>,
}

impl Sim {
    /// A fresh identifier.
    pub fn uid(&mut self, what: &str) -> String {
        self.serial += 1;
        format!("{what}-{}", self.serial)
    }

    /// The operator's clock.
    pub fn clock(&self) -> Timestamp {
        Timestamp::from_second(self.now.as_second() + self.skew).unwrap()
    }

    /// A number below `sides`; zero without dice.
    pub fn roll(&mut self, sides: u64) -> u64 {
        if self.dice == 0 {
            return 0;
        }
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    /// Whether somebody who could act in this tick dawdles.
    pub fn dawdles(&mut self) -> bool {
        self.dice != 0 && self.roll(4) == 0
    }

    pub fn node(&self, name: &str) -> &Node {
        self.api.nodes.get(name).unwrap_or_else(|| panic!("no node {name}"))
    }

    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.api.nodes.get_mut(name).unwrap_or_else(|| panic!("no node {name}"))
    }

    pub fn machine_mut(&mut self, name: &str) -> &mut Machine {
        self.machines.get_mut(name).unwrap_or_else(|| panic!("no machine {name}"))
    }

    pub fn node_names(&self) -> Vec<String> {
        self.api.nodes.keys().cloned().collect()
    }

    /// Driver release of a revision, by its Module.
    pub fn version_of(&self, revision: &RevisionId) -> Option<String> {
        self.api.revisions.iter().find(|known| known.id == *revision).map(|known| known.version.clone())
    }

    /// What an operator sees: the API and its own memory.
    pub fn snapshot(&mut self) -> Seen {
        self.count_versions();
        let versions = self.versions.iter().map(|(name, (version, _))| (name.clone(), *version)).collect();
        let mut world = self.api.clone();
        for driver in &mut world.drivers {
            driver.offered = self.daemonsets.get(&driver.name).cloned().into_iter().collect();
        }
        Self::candidates(&mut world);
        // The operator knows pods only by the resources that a CXIDriver names, or named.
        let named =
            world.drivers.iter().flat_map(|driver| driver.resource_names().map(str::to_owned).collect::<Vec<_>>());
        let named: BTreeSet<String> = named.collect();
        for node in world.nodes.values_mut() {
            node.holders.retain(|holder| holder.unreadable || holder.resources.iter().any(|name| named.contains(name)));
        }
        self.operator.looks.retain(|name| looks::count_from(world.nodes.get(name)?.rollout()?));
        for (name, node) in &mut world.nodes {
            node.looks.extend_from_slice(self.operator.looks.at(name));
            for holder in &mut node.holders {
                holder.refused = self.operator.refusals.get(&holder.uid).cloned();
            }
        }
        Seen { world, versions }
    }

    /// The operator dies and comes back with an empty memory.
    pub fn restart_operator(&mut self) {
        self.operator = Operator::default();
    }
}

/// Whole seconds.
pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
