//! One CXIDriver with what its plan may look at, and its nodes.

use std::{borrow::Cow, cell::Cell};

use cxi_api::{NodeRollout, RevisionId, Timestamp, driver::SourceType};

use crate::{
    driver::ownership::{Ownership, selects},
    evidence::labels::version_labels,
    node::{drift, request::Request},
    preflight::trial::{OnTrial, Trials},
    settings::Settings,
    view::View,
    world::{Driver, Holder, Node, Revision},
};

/// What the planning of one driver may look at.
pub struct Scope<'a> {
    pub world: &'a View<'a>,
    pub driver: &'a Driver,
    /// Its nodes that try a release for a CXIPreflight.
    pub trials: Trials<'a>,
    /// The revision that the spec describes.
    pub target: RevisionId,
    /// Label that opens a node to the device plugin.
    pub plugin_gate: String,
    /// Label that opens a node to the retry handler.
    pub retry_handler_gate: String,
    pub ownership: &'a Ownership<'a>,
    pub settings: &'a Settings,
    pub now: Timestamp,
    pub wake: &'a Cell<Option<Timestamp>>,
}

/// Nodes of a driver with what this plan makes of their records.
pub struct Member<'a> {
    pub node: &'a Node,
    /// Revision that the node should be on.
    pub wanted: Option<RevisionId>,
    /// The trial for which it should be on it, if it is one.
    pub trial: Option<OnTrial<'a>>,
    /// The record as it will be when this plan is carried out.
    pub record: Option<Cow<'a, NodeRollout>>,
    /// Pods on the node that hold the driver's NICs.
    pub holders: Vec<&'a Holder>,
    /// What the node shows, besides.
    pub seen: Seen<'a>,
}

/// What is asked of a node's labels again and again: a node of a large cluster is not at hand a second time.
pub struct Seen<'a> {
    /// What the administrator asks of the node.
    pub request: Option<Request<'a>>,
    /// Value of the gate of the device plugin.
    pub plugin: Option<&'a str>,
    /// Value of the gate of the retry handler.
    pub retry_handler: Option<&'a str>,
    /// Whether it has a version label of KMM's.
    pub labelled: bool,
    /// See [`drift::needs_repair`], by the record as it is stored.
    pub repair: bool,
    /// See [`drift::needs_transaction`], by the record as it is stored.
    pub moves: bool,
}

impl<'a> Member<'a> {
    /// A node with what is asked of it.
    pub fn new(
        scope: &Scope<'a>,
        node: &'a Node,
        wanted: Option<RevisionId>,
        record: Option<Cow<'a, NodeRollout>>,
    ) -> Self {
        let label = |key: &str| node.labels.get(key).map(String::as_str);
        let stored = node.rollout();
        let seen = Seen {
            request: Request::of(node),
            plugin: label(&scope.plugin_gate),
            retry_handler: label(&scope.retry_handler_gate),
            labelled: version_labels(node, &scope.world.namespace).next().is_some(),
            repair: stored.is_some_and(|record| drift::needs_repair(scope.world, node, record)),
            moves: stored.is_some_and(|record| drift::needs_transaction(scope.world, node, record, wanted.as_ref())),
        };
        let trial = scope.trials.of_node(node).filter(|trial| wanted.as_ref() == Some(&trial.candidate.revision));
        Self { node, wanted, trial, record, holders: node.holders_of(scope.driver), seen }
    }
}

impl<'a> Scope<'a> {
    /// Whether a node cannot be read, and is the driver's or may be: one whose labels are not known may be of any.
    pub fn is_hidden(&self, node: &Node) -> bool {
        let owner = self.ownership.owner.get(node.name.as_str());
        let mine = owner.map_or_else(|| selects(self.driver, node), |owner| *owner == self.driver.name);
        node.unreadable.is_some() && (mine || node.labels.is_empty())
    }

    /// Nodes that belong to the driver.
    pub fn nodes(&self) -> impl Iterator<Item = &'a Node> {
        let (world, ownership, name) = (self.world, self.ownership, &self.driver.name);
        world.nodes.values().filter(move |node| ownership.owner.get(node.name.as_str()) == Some(&name.as_str()))
    }

    /// The Module of a revision; none for a revision that the host brings.
    pub fn revision(&self, id: &RevisionId) -> Option<&'a Revision> {
        self.world.revision(&self.driver.name, id)
    }

    pub fn is_preinstalled(&self) -> bool {
        self.driver.spec.source.kind == SourceType::Preinstalled
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
