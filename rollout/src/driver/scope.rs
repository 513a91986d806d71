//! One CXIDriver with what its plan may look at, and its nodes.

use std::cell::Cell;

use cxi_api::{NodeRollout, RevisionId, Timestamp};

use crate::{
    driver::ownership::Ownership,
    intent::Intent,
    node::{drift, seen::Seen},
    preflight::trial::{OnTrial, Trials},
    settings::Settings,
    view::View,
    world::{Driver, Revision},
};

/// What the planning of one driver may look at.
pub struct Scope<'a> {
    pub world: &'a View<'a>,
    pub driver: &'a Driver,
    /// Its nodes that try a release for a CXIPreflight.
    pub trials: Trials<'a>,
    /// What it asks for.
    pub intent: &'a Intent<'a>,
    pub ownership: &'a Ownership<'a>,
    pub settings: &'a Settings,
    pub now: Timestamp,
    pub wake: &'a Cell<Option<Timestamp>>,
}

/// What a plan makes of a record.
pub enum Becomes<'a> {
    /// It stays as it is stored; none is, or nothing comes of it.
    Same(Option<&'a NodeRollout>),
    /// This.
    Changed(Box<NodeRollout>),
}

/// A node of a driver with what this plan makes of its record. There are as many as nodes, so it is small.
pub struct Member<'a> {
    pub node: &'a Seen<'a>,
    /// Revision that the node should be on.
    pub wanted: Option<RevisionId>,
    /// The trial for which it should be on it, if it is one.
    pub trial: Option<OnTrial<'a>>,
    record: Becomes<'a>,
    /// See [`drift::needs_repair`], by the record as it is stored.
    pub repair: bool,
    /// See [`drift::needs_transaction`], by the record as it is stored.
    pub moves: bool,
}

impl<'a> Member<'a> {
    /// A node with what is asked of it.
    pub fn new(scope: &Scope<'a>, node: &'a Seen<'a>, wanted: Option<RevisionId>, record: Becomes<'a>) -> Self {
        let stored = node.rollout();
        Self {
            node,
            repair: stored.is_some_and(|record| drift::needs_repair(scope.world, node, record)),
            moves: stored.is_some_and(|record| drift::needs_transaction(scope.world, node, record, wanted.as_ref())),
            trial: scope.trial(node, wanted.as_ref()),
            wanted,
            record,
        }
    }

    /// The record as it will be when this plan is carried out.
    pub fn record(&self) -> Option<&NodeRollout> {
        match &self.record {
            Becomes::Same(record) => *record,
            Becomes::Changed(record) => Some(record),
        }
    }

    /// What comes of the record was decided anew.
    pub fn becomes(&mut self, record: Becomes<'a>) {
        self.record = record;
    }

    /// Whether this plan leaves the record as it is stored.
    pub fn is_unchanged(&self) -> bool {
        match &self.record {
            Becomes::Same(record) => record.is_some() == self.node.rollout().is_some(),
            Becomes::Changed(record) => Some(&**record) == self.node.rollout(),
        }
    }
}

impl<'a> Scope<'a> {
    /// Nodes that cannot be read, and are the driver's or may be: one whose labels are not known may be of any.
    pub fn hidden(&self) -> impl Iterator<Item = &'a Seen<'a>> {
        let driver = self.driver;
        self.world.unreadable_nodes().filter(move |node| {
            let mine = node.owner.map_or_else(|| driver.selects(node), |owner| owner == driver.name);
            mine || node.labels.is_empty()
        })
    }

    /// Nodes that belong to the driver.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &'a Seen<'a>> {
        self.world.nodes_of(&self.driver.name)
    }

    /// The trial for which a node should be on the revision that is wanted of it, if it is one.
    pub fn trial(&self, node: &Seen<'_>, wanted: Option<&RevisionId>) -> Option<OnTrial<'a>> {
        self.trials.of_node(node).filter(|trial| wanted == Some(&trial.candidate.revision))
    }

    /// The Module of a revision; none for a revision that the host brings.
    pub fn revision(&self, id: &RevisionId) -> Option<&'a Revision> {
        self.world.revision(&self.driver.name, id)
    }

    /// Whether the CXIDriver is being deleted and leaves its driver where it is.
    pub fn is_orphaning(&self) -> bool {
        self.driver.deleting && self.driver.orphan
    }

    /// Asks to be woken at a time.
    pub fn wake_at(&self, at: Timestamp) {
        if self.wake.get().is_none_or(|wake| at < wake) {
            self.wake.set(Some(at));
        }
    }
}
