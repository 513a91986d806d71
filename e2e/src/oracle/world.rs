//! What the oracle knows: the API's story and the ground truth, as of the last event.

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::{Advertise, Phase, Timestamp, names::DEFAULT_RESOURCE};

use crate::truth::{Fact, Record};

use super::facts::{CxiFacts, DriverFacts, NodeFacts, PodFacts};

/// Something that the oracle learns.
#[derive(Clone, Debug)]
pub enum Event {
    /// A Node as it is now.
    Node(NodeFacts),
    /// A Node is gone.
    NodeGone(String),
    /// A Pod as it is now.
    Pod(PodFacts),
    /// A Pod is gone; its UID.
    PodGone(String),
    /// A CXINode as it is now.
    Cxi(Box<CxiFacts>),
    /// A CXINode is gone.
    CxiGone(String),
    /// A CXIDriver as it is now.
    Driver(Box<DriverFacts>),
    /// A CXIDriver is gone.
    DriverGone(String),
    /// Something happened on a machine.
    Truth(Record),
    /// The scenario announces what it is about to do itself.
    Allow(Allowance),
    /// The operator was started, or none runs any more.
    Operator {
        /// Whether one runs.
        runs: bool,
    },
    /// Time went on.
    Tick,
}

/// What the scenario does itself and the oracle must not blame on the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What.
    pub what: Allowed,
    /// Until when.
    pub until: Timestamp,
}

/// See [`Allowance`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Labels of ours, or of KMM, on this node change by hand.
    OurLabels(String),
    /// Labels, taints, annotations or the cordon of others change on this node.
    ForeignEdit(String),
    /// Pods whose `namespace/name` begins so are deleted or evicted.
    PodDeletion(String),
}

/// What is true of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Running boot.
    pub boot_id: String,
    /// KMM Module that brought in the modules.
    pub owner: Option<String>,
    /// Release of the driver, if all of it is in.
    pub version: Option<String>,
    /// Modules in the kernel.
    pub modules: BTreeSet<String>,
    /// Last change of boot or modules.
    pub changed: Option<Timestamp>,
    /// Pods that have a device open, by UID.
    pub holders: BTreeMap<String, String>,
}

/// What an event changed. Objects that are the same as before make no change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A Node.
    Node { name: String, before: Option<NodeFacts>, after: Option<NodeFacts> },
    /// A Pod.
    Pod { before: Option<PodFacts>, after: Option<PodFacts> },
    /// A CXINode.
    Cxi { name: String, before: Option<Box<CxiFacts>>, after: Option<Box<CxiFacts>> },
    /// A CXIDriver.
    Driver { before: Option<Box<DriverFacts>>, after: Option<Box<DriverFacts>> },
    /// A machine.
    Truth(Record),
    /// Only time.
    Tick,
}

/// The state of knowledge.
#[derive(Debug, Default)]
pub struct World {
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// Pods by UID.
    pub pods: BTreeMap<String, PodFacts>,
    /// CXINodes by name.
    pub cxi: BTreeMap<String, Box<CxiFacts>>,
    /// CXIDrivers by name.
    pub drivers: BTreeMap<String, Box<DriverFacts>>,
    /// Machines by node name.
    pub machines: BTreeMap<String, Machine>,
    allowances: Vec<Allowance>,
    /// Since when an operator runs.
    pub operator_since: Option<Timestamp>,
}

impl World {
    /// Takes an event in and says what it changed.
    pub fn fold(&mut self, at: Timestamp, event: Event) -> Change {
        match event {
            Event::Node(after) => {
                let name = after.name.clone();
                let before = self.nodes.insert(name.clone(), after.clone());
                Change::Node { name, before, after: Some(after) }
            }
            Event::NodeGone(name) => Change::Node { before: self.nodes.remove(&name), name, after: None },
            Event::Pod(after) => {
                Change::Pod { before: self.pods.insert(after.uid.clone(), after.clone()), after: Some(after) }
            }
            Event::PodGone(uid) => Change::Pod { before: self.pods.remove(&uid), after: None },
            Event::Cxi(after) => {
                let name = after.name.clone();
                let before = self.cxi.insert(name.clone(), after.clone());
                Change::Cxi { name, before, after: Some(after) }
            }
            Event::CxiGone(name) => Change::Cxi { before: self.cxi.remove(&name), name, after: None },
            Event::Driver(after) => {
                let before = self.drivers.insert(after.name.clone(), after.clone());
                Change::Driver { before, after: Some(after) }
            }
            Event::DriverGone(name) => Change::Driver { before: self.drivers.remove(&name), after: None },
            Event::Truth(record) => {
                if record.fact == Fact::Removed {
                    self.machines.remove(&record.node);
                } else {
                    self.machines.entry(record.node.clone()).or_default().fold(&record);
                }
                Change::Truth(record)
            }
            Event::Allow(allowance) => {
                self.allowances.retain(|allowance| allowance.until >= at);
                self.allowances.push(allowance);
                Change::Tick
            }
            Event::Operator { runs } => {
                self.operator_since = if runs { self.operator_since.or(Some(at)) } else { None };
                Change::Tick
            }
            Event::Tick => Change::Tick,
        }
    }

    /// Whether the scenario announced something.
    pub fn allows(&self, at: Timestamp, matches: impl Fn(&Allowed) -> bool) -> bool {
        self.allowances.iter().any(|allowance| allowance.until >= at && matches(&allowance.what))
    }

    /// Whether labels of ours on this node change by hand.
    pub fn labels_by_hand(&self, at: Timestamp, node: &str) -> bool {
        self.allows(at, |allowed| matches!(allowed, Allowed::OurLabels(name) if name == node))
    }

    /// Whether the scenario deletes this pod.
    pub fn pod_by_hand(&self, at: Timestamp, pod: &PodFacts) -> bool {
        self.allows(at, |allowed| matches!(allowed, Allowed::PodDeletion(prefix) if pod.path().starts_with(prefix)))
    }

    /// CXIDriver that owns a node.
    pub fn driver_of(&self, node: &str) -> Option<&DriverFacts> {
        let by_record = self.cxi.get(node).and_then(|cxi| cxi.rollout.as_ref()).map(|r| r.driver.as_str());
        let by_label = || self.nodes.get(node).and_then(NodeFacts::driver);
        self.drivers.get(by_record.or_else(by_label)?).map(Box::as_ref)
    }

    /// Resource that is offered on a node.
    pub fn resource_of(&self, node: &str) -> &str {
        self.driver_of(node).map_or(DEFAULT_RESOURCE, DriverFacts::resource)
    }

    /// Names of the nodes that a CXIDriver owns.
    pub fn nodes_of(&self, driver: &str) -> Vec<&str> {
        let own = |name: &&String| self.driver_of(name).is_some_and(|owner| owner.name == driver);
        self.nodes.keys().filter(own).map(String::as_str).collect()
    }

    /// Phase of a node.
    pub fn phase(&self, node: &str) -> Option<Phase> {
        self.cxi.get(node)?.rollout.as_ref().map(|rollout| rollout.phase)
    }

    /// Whether we keep a node from offering its NICs.
    pub fn closed_by_us(&self, driver: &DriverFacts, node: &NodeFacts) -> bool {
        let rollout = self.cxi.get(&node.name).and_then(|cxi| cxi.rollout.as_ref());
        let withheld = rollout.is_some_and(|r| r.advertise != Advertise::All || r.phase == Phase::Quarantined);
        withheld || (driver.spec.device_plugin.enabled && node.gate(&driver.name).is_none())
    }

    /// Whether an operator has run for that many seconds.
    pub fn operated_for(&self, at: Timestamp, seconds: i64) -> bool {
        self.operator_since.is_some_and(|since| seconds_between(since, at) >= seconds)
    }
}

impl Machine {
    fn fold(&mut self, record: &Record) {
        let owned = |modules: &[String]| modules.iter().cloned().collect::<BTreeSet<_>>();
        match &record.fact {
            Fact::Booted { boot_id, .. } => {
                *self = Self { boot_id: boot_id.clone(), ..Self::default() };
            }
            Fact::Loaded { owner, version, modules } => {
                self.modules.extend(modules.iter().cloned());
                self.owner = Some(owner.clone());
                self.version = Some(version.clone());
            }
            Fact::LoadFailed { owner, left, .. } => {
                if !left.is_empty() && self.owner.is_none() {
                    self.owner = Some(owner.clone());
                }
                self.modules = owned(left);
            }
            Fact::Unloaded { modules, .. } | Fact::CleanedUp { modules } => {
                self.modules.retain(|name| !modules.contains(name));
                self.version = None;
                if self.modules.is_empty() {
                    self.owner = None;
                }
            }
            Fact::Opened { uid, pod } => {
                self.holders.insert(uid.clone(), pod.clone());
                return;
            }
            Fact::Closed { uid } => {
                self.holders.remove(uid);
                return;
            }
            Fact::LoadedAlready { .. } | Fact::UnloadRefused { .. } | Fact::Removed => return,
        }
        self.changed = Some(record.at);
    }
}

/// Whether something else keeps a node from offering its NICs.
pub fn down_otherwise(driver: &DriverFacts, node: &NodeFacts) -> bool {
    let offers = node.allocatable.get(driver.resource()).is_some_and(|count| *count > 0);
    !node.ready || node.unschedulable || (driver.spec.device_plugin.enabled && !offers)
}

/// Whole seconds from `a` to `b`.
pub fn seconds_between(a: Timestamp, b: Timestamp) -> i64 {
    b.duration_since(a).as_secs()
}
