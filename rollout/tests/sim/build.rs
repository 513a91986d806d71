//! Setting a cluster up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cxi_api::{CXIDriverSpec, CXIDriverStatus, RevisionId, Timestamp, driver::SourceType};
use cxi_rollout::{
    Settings, World,
    world::{AgentPolicy, Driver, Node},
};

use crate::sim::{KERNEL, Machine, NAMESPACE, Operator, Oracle, SELECTOR, Sim};

/// A spec as most tests use it.
pub fn spec(version: &str) -> CXIDriverSpec {
    let mut spec = CXIDriverSpec::new(version);
    spec.source.kind = SourceType::Prebuilt;
    spec.source.image = Some("registry/cxi".into());
    spec.retry_handler.image = Some("registry/cxi-rh".into());
    spec.node_selector = [(SELECTOR.to_owned(), "true".to_owned())].into();
    spec
}

impl Sim {
    /// A cluster with nodes `n1` … and no driver.
    pub fn bare(nodes: usize) -> Self {
        let mut sim = Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            horizon: None,
            skew: 0,
            settings: Settings::default(),
            api: World {
                namespace: NAMESPACE.into(),
                kmm_present: true,
                agent_policy: AgentPolicy::InForce,
                ..World::default()
            },
            machines: BTreeMap::new(),
            questions: BTreeMap::new(),
            daemonsets: BTreeMap::new(),
            hidden: BTreeMap::new(),
            workloads: Vec::new(),
            pods: Vec::new(),
            budgets: Vec::new(),
            missing: BTreeSet::new(),
            refuses_modules: None,
            refuses_layouts: None,
            building: BTreeMap::new(),
            foreign: BTreeSet::new(),
            kmm_runs: true,
            operator: Operator::default(),
            events: Vec::new(),
            oracle: Oracle::default(),
            writes: BTreeMap::new(),
            versions: BTreeMap::new(),
            serial: 0,
            dice: 0,
        };
        for number in 1..=nodes {
            sim.add_node(&format!("n{number}"));
        }
        sim
    }

    /// A cluster with one driver `cxi` applied, nothing done yet.
    pub fn new(nodes: usize, spec: CXIDriverSpec) -> Self {
        let mut sim = Self::bare(nodes);
        sim.add_driver("cxi", spec);
        sim
    }

    /// A cluster that runs a driver on all nodes.
    pub fn installed(nodes: usize, spec: CXIDriverSpec) -> Self {
        let mut sim = Self::new(nodes, spec);
        sim.settle();
        sim.assert_all_up_to_date();
        sim.writes.clear();
        sim.events.clear();
        sim
    }

    /// Adds a node with two NICs.
    pub fn add_node(&mut self, name: &str) {
        let uid = self.uid("node");
        let boot_id = self.uid("boot");
        let labels = [(SELECTOR.to_owned(), "true".to_owned()), ("kubernetes.io/hostname".to_owned(), name.to_owned())];
        let node = Node {
            name: name.into(),
            uid,
            created: self.now,
            labels: labels.into(),
            taints: Vec::new(),
            ready: true,
            cordoned: false,
            kernel: KERNEL.into(),
            boot_id,
            allocatable: BTreeMap::new(),
            record: None,
            unreadable: None,
            stale_record: None,
            holders: Vec::new(),
            kmm_wants: Vec::new(),
            kmm_has: Vec::new(),
            workers: Vec::new(),
            pods: Vec::new(),
            looks: Vec::new(),
        };
        self.api.nodes.insert(name.into(), node);
        self.machines.insert(name.into(), Machine::default());
    }

    /// Applies a CXIDriver.
    pub fn add_driver(&mut self, name: &str, spec: CXIDriverSpec) {
        let uid = self.uid("driver");
        self.api.drivers.push(Driver {
            name: name.into(),
            uid,
            generation: 1,
            created: self.now,
            deleting: false,
            orphan: false,
            finalizer: false,
            resume: None,
            spec: Arc::new(spec),
            status: CXIDriverStatus::default(),
            operands_current: false,
            plugin_current: false,
            pods_ready: BTreeMap::new(),
            pods_outdated: BTreeMap::new(),
            injection: cxi_rollout::world::Injection::default(),
            sidecar: None,
            offered: Vec::new(),
            installation: None,
            max_unselected: None,
            module_refused: None,
        });
    }

    /// The driver of this name.
    pub fn driver_named(&self, name: &str) -> Option<&Driver> {
        self.api.drivers.iter().find(|driver| driver.name == name)
    }

    /// The driver of this name, which must be there.
    pub fn driver_mut(&mut self, name: &str) -> &mut Driver {
        self.api.drivers.iter_mut().find(|driver| driver.name == name).unwrap_or_else(|| panic!("no driver {name}"))
    }

    /// The driver `cxi`.
    pub fn driver(&self) -> &Driver {
        self.driver_named("cxi").expect("the driver is there")
    }

    /// Edits the spec of the driver `cxi`.
    pub fn edit(&mut self, change: impl FnOnce(&mut CXIDriverSpec)) {
        self.edit_named("cxi", change);
    }

    /// Edits the spec of a driver.
    pub fn edit_named(&mut self, name: &str, change: impl FnOnce(&mut CXIDriverSpec)) {
        let driver = self.driver_mut(name);
        let before = driver.spec.clone();
        change(Arc::make_mut(&mut driver.spec));
        if driver.spec != before {
            driver.generation += 1;
            if driver.spec.device_plugin != before.device_plugin || driver.spec.tolerations != before.tolerations {
                driver.operands_current = false;
                driver.plugin_current = false;
            }
        }
    }

    /// The revision that `cxi` asks for.
    pub fn target(&self) -> RevisionId {
        self.driver().spec.revision("cxi")
    }
}
