//! Stories for the tests of the checks: a quiet cluster, to which things happen.

use std::collections::BTreeMap;

use cxi_api::{
    Advertise, CXIDriverSpec, CXIDriverStatus, NodeRollout, Phase, RevisionId, Timestamp, Transaction, Why,
    names::{device_plugin_gate, kmm_version_label, module_name},
    transaction::Work,
};
use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use crate::{
    oracle::{
        facts::{CxiFacts, DriverFacts, NodeFacts, PodFacts},
        judge::{Invariant, Judge},
        world::{Allowance, Allowed, Event},
    },
    truth::{Fact, Record},
};

pub(crate) const DRIVER: &str = "d";
pub(crate) const RESOURCE: &str = "hpe.com/cxi";

/// A judge and the time.
pub(crate) struct Story {
    pub(crate) judge: Judge,
    pub(crate) now: Timestamp,
    pub(crate) old: RevisionId,
    pub(crate) new: RevisionId,
    pub(crate) driver: DriverFacts,
}

impl Story {
    /// `nodes` nodes named n1 and on, all verified on the old revision, and a CXIDriver that just asked for the new one.
    pub(crate) fn begin(nodes: usize) -> Self {
        let spec = |version: &str| {
            let mut spec = CXIDriverSpec::new(version);
            spec.update_strategy.max_unavailable = IntOrString::Int(1);
            spec
        };
        let driver =
            DriverFacts { name: DRIVER.into(), generation: 2, deleting: false, spec: spec("13.1.0"), status: None };
        let (old, new) = (spec("13.0.0").revision(DRIVER), driver.target());
        let now = Timestamp::UNIX_EPOCH;
        let mut story = Self { judge: Judge::default(), now, old, new, driver };
        story.tell(Event::Operator { runs: true });
        let driver = story.driver.clone();
        story.tell(Event::Driver(Box::new(driver)));
        for number in 1..=nodes {
            let name = format!("n{number}");
            let old = story.old.clone();
            story.fact(&name, Fact::Booted { boot_id: "b1".into(), kernel: "6.1".into() });
            story.loaded(&name, &old);
            let rollout = story.rollout(Phase::Pending);
            story.cxi(&name, rollout);
            let node = story.node(&name);
            story.tell(Event::Node(node));
        }
        story
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.now += 10.milliseconds();
        self.judge.observe(self.now, event);
    }

    /// Lets time pass, with ticks.
    pub(crate) fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1.second();
            self.judge.observe(self.now, Event::Tick);
        }
    }

    pub(crate) fn fact(&mut self, node: &str, fact: Fact) {
        let record = Record { at: self.now, node: node.into(), fact };
        self.tell(Event::Truth(record));
    }

    pub(crate) fn loaded(&mut self, node: &str, revision: &RevisionId) {
        let version = if *revision == self.new { "13.1.0" } else { "13.0.0" };
        let modules = crate::driver_model::STACK.map(str::to_owned).to_vec();
        self.fact(node, Fact::Loaded { owner: module_name(revision), version: version.into(), modules });
    }

    pub(crate) fn unloaded(&mut self, node: &str, revision: &RevisionId) {
        let modules = crate::driver_model::STACK.map(str::to_owned).to_vec();
        self.fact(node, Fact::Unloaded { owner: module_name(revision), modules });
    }

    /// A node in service on the old revision.
    pub(crate) fn node(&self, name: &str) -> NodeFacts {
        let labels: BTreeMap<String, String> = [
            (Self::label(&self.old), self.old.to_string()),
            (device_plugin_gate(DRIVER), self.old.to_string()),
            ("rack".to_owned(), "7".to_owned()),
        ]
        .into();
        NodeFacts {
            name: name.into(),
            uid: name.into(),
            labels,
            ready: true,
            allocatable: [(RESOURCE.to_owned(), 8)].into(),
            ..NodeFacts::default()
        }
    }

    /// The node without its gate and without NICs.
    pub(crate) fn closed(&self, name: &str) -> NodeFacts {
        let mut node = self.node(name);
        node.labels.remove(&device_plugin_gate(DRIVER));
        node.allocatable.insert(RESOURCE.into(), 0);
        node
    }

    pub(crate) fn label(revision: &RevisionId) -> String {
        kmm_version_label("cxi-operator", &module_name(revision))
    }

    pub(crate) fn rollout(&self, phase: Phase) -> NodeRollout {
        let mut rollout: NodeRollout = serde_json::from_value(json!({
            "driver": DRIVER, "phase": phase, "since": self.now, "revision": self.old, "targetRevision": self.new,
        }))
        .unwrap();
        rollout.advertise = match phase {
            Phase::UpToDate | Phase::Pending | Phase::Admitted => Advertise::All,
            Phase::Waiting => Advertise::InUse,
            _ => Advertise::None,
        };
        rollout
    }

    /// A transaction to the new revision.
    pub(crate) fn transaction(&self, why: Why) -> Transaction {
        Transaction {
            why,
            goal: Some(self.new.clone()),
            work: Work { driver: true, retry_handler: false },
            from: None,
            closed_at: None,
            snapshot: None,
            evictions: Vec::new(),
        }
    }

    pub(crate) fn cxi(&mut self, name: &str, rollout: NodeRollout) {
        self.tell(Event::Cxi(Box::new(CxiFacts { name: name.into(), rollout: Some(rollout) })));
    }

    pub(crate) fn phase(&mut self, name: &str, phase: Phase) {
        let rollout = self.rollout(phase);
        self.cxi(name, rollout);
    }

    /// A pod that holds a NIC.
    pub(crate) fn holder(node: &str) -> PodFacts {
        PodFacts {
            uid: format!("pod-on-{node}"),
            namespace: "jobs".into(),
            name: "job".into(),
            node: Some(node.into()),
            requests: [(RESOURCE.to_owned(), 1)].into(),
            ..PodFacts::default()
        }
    }

    pub(crate) fn status(&mut self, status: CXIDriverStatus) {
        self.driver.status = Some(status);
        let driver = self.driver.clone();
        self.tell(Event::Driver(Box::new(driver)));
    }

    pub(crate) fn allow(&mut self, what: Allowed) {
        let until = self.now + 10.seconds();
        self.tell(Event::Allow(Allowance { what, until }));
    }

    /// Whether an invariant was violated, whatever else was.
    pub(crate) fn violates(&self, invariant: Invariant) -> bool {
        self.violated().contains(&invariant)
    }

    /// The invariants that were violated.
    pub(crate) fn violated(&self) -> Vec<Invariant> {
        self.judge.violations().iter().map(|violation| violation.invariant).collect()
    }
}
