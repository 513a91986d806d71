//! The state of all soft nodes, and what the watches say of it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use cxi_api::{CXINode, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    driver_model::Registry,
    truth::{Fact, Record},
    watch::Seen,
};

use super::{
    node::{CxiSeen, Outcome, Pods, SoftNode, Write},
    plan::PodPlan,
    runtime::Moment,
    shape::Pace,
};

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) nodes: BTreeMap<String, SoftNode>,
    /// Pods by node and UID, those of unknown nodes too.
    pub(crate) pods: HashMap<String, Pods>,
    /// CXINodes, those of unknown nodes too.
    cxi: HashMap<String, CxiSeen>,
    pub(crate) registry: Registry,
    pub(crate) pace: Pace,
    pub(crate) records: Vec<Record>,
    pub(crate) listeners: Vec<UnboundedSender<Record>>,
    started: Instant,
}

impl State {
    pub(crate) fn new(registry: Registry, pace: Pace) -> Self {
        Self {
            nodes: BTreeMap::new(),
            pods: HashMap::new(),
            cxi: HashMap::new(),
            registry,
            pace,
            records: Vec::new(),
            listeners: Vec::new(),
            started: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment { since_start: self.started.elapsed(), wall: Timestamp::now() }
    }

    /// Adds a machine that registers itself as a node.
    pub(crate) fn add(&mut self, mut node: SoftNode) {
        node.see_cxi(self.cxi.get(&node.name).cloned());
        let name = node.name.clone();
        self.nodes.insert(name.clone(), node);
        self.collect_facts(&name);
    }

    /// Takes a machine away.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let removed = self.nodes.remove(name).is_some();
        if removed {
            self.record(name, Fact::Removed);
        }
        removed
    }

    /// Lets a node get on: what it wants written, and when to come again.
    pub(crate) fn advance(&mut self, name: &str) -> (Vec<Write>, Option<Instant>) {
        let now = self.now();
        let no_pods = Pods::new();
        let pods = self.pods.get(name).unwrap_or(&no_pods);
        let Some(node) = self.nodes.get_mut(name) else { return (Vec::new(), None) };
        let (writes, next) = node.advance(pods, &self.registry, &self.pace, now);
        self.collect_facts(name);
        (writes, next.map(|after| self.started + after))
    }

    pub(crate) fn written(&mut self, name: &str, write: &Write, outcome: Outcome) {
        let now = self.now();
        if let Some(node) = self.nodes.get_mut(name) {
            node.written(write, outcome, now);
        }
    }

    /// Moves what happened on a machine to the record.
    pub(crate) fn collect_facts(&mut self, name: &str) {
        let facts = self.nodes.get_mut(name).map(|node| std::mem::take(&mut node.machine.facts));
        for fact in facts.into_iter().flatten() {
            self.record(name, fact);
        }
    }

    fn record(&mut self, node: &str, fact: Fact) {
        let record = Record { at: Timestamp::now(), node: node.to_owned(), fact };
        self.listeners.retain(|listener| listener.send(record.clone()).is_ok());
        self.records.push(record);
    }

    // === what the watches say; each returns the node that has something to do ===

    pub(crate) fn see_pod(&mut self, seen: &Seen<Pod>) -> Option<String> {
        let (pod, gone) = match seen {
            Seen::Applied(pod) => (pod, false),
            Seen::Gone(pod) => (pod, true),
            Seen::Synced => return None,
        };
        let node = pod.spec.as_ref()?.node_name.clone()?;
        let plan = PodPlan::read(pod)?;
        let pods = self.pods.entry(node.clone()).or_default();
        if gone {
            pods.remove(&plan.uid);
        } else {
            pods.insert(plan.uid.clone(), plan);
        }
        self.nodes.contains_key(&node).then_some(node)
    }

    pub(crate) fn see_cxi(&mut self, seen: &Seen<CXINode>) -> Option<String> {
        let (object, gone) = match seen {
            Seen::Applied(object) => (object, false),
            Seen::Gone(object) => (object, true),
            Seen::Synced => return None,
        };
        let name = object.name_any();
        let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
        let now = (!gone).then(|| CxiSeen {
            uid: object.uid().unwrap_or_default(),
            since: rollout.map(|rollout| rollout.since),
            advertise: rollout.map(|rollout| rollout.advertise).unwrap_or_default(),
        });
        // The agent's own writes change nothing here and wake nobody.
        if self.cxi.get(&name) == now.as_ref() {
            return None;
        }
        match &now {
            Some(now) => self.cxi.insert(name.clone(), now.clone()),
            None => self.cxi.remove(&name),
        };
        self.nodes.get_mut(&name)?.see_cxi(now);
        Some(name)
    }

    pub(crate) fn see_node(&mut self, seen: &Seen<Node>) -> Option<String> {
        let Seen::Applied(object) = seen else { return None };
        let name = object.name_any();
        let conditions = object.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        let node = self.nodes.get_mut(&name)?;
        node.see_ready(ready);
        (!ready).then_some(name)
    }
}
