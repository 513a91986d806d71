//! Nodes that stop to match `spec.nodeSelector`, many at the same time. That is mostly a failure of whatever sets the labels: Node Feature
//! Discovery takes all of its labels off all nodes while it is reconfigured, for example. As long as the nodes still have NICs, nothing is
//! taken away from them.

use std::collections::BTreeSet;

use cxi_api::{NodeRollout, RevisionId, names::MAX_UNSELECTED_ANNOTATION, phase::Stage};

use crate::{
    driver::scope::{Member, Scope},
    node::seen::Seen,
    text,
    world::Node,
};

/// Nodes that are held where they are, because too many of them stopped to be selected.
pub struct Collapse<'a> {
    nodes: BTreeSet<&'a str>,
    limit: usize,
}

impl<'a> Collapse<'a> {
    /// The nodes to hold; none while no more nodes leave than may leave at the same time.
    pub fn of(scope: &Scope<'a>) -> Option<Self> {
        let driver = scope.driver;
        if driver.deleting {
            return None;
        }
        let nodes: BTreeSet<&str> = scope.nodes().filter(|node| leaves(node)).map(|node| &*node.node().name).collect();
        let budget = || scope.intent.strategy.budget.of(scope.nodes().len()).max(1);
        if nodes.is_empty() {
            return None;
        }
        let limit = driver.max_unselected.unwrap_or_else(budget);
        let begun = |node: &&Seen<'_>| !node.is_selected && node.rollout().is_some_and(NodeRollout::is_taken_down);
        let leaving = nodes.len() + scope.nodes().filter(begun).count();
        (leaving > limit).then_some(Self { nodes, limit })
    }

    /// The revision that a node stays on, if it is held.
    pub fn stays_on(&self, node: &Node) -> Option<RevisionId> {
        let record = node.rollout().filter(|_| self.nodes.contains(node.name.as_str()))?;
        [record.revision.as_ref(), record.goal(), record.target_revision.as_ref()].into_iter().flatten().next().cloned()
    }

    /// What an administrator is told.
    pub fn message(&self) -> String {
        let (many, some) = (text::about(self.nodes.len()), text::some(self.nodes.iter().copied()));
        format!(
            "{many} nodes no longer match spec.nodeSelector ({some}), more than the {} that may leave at the same time. Their \
             agents still see NICs, so nothing is unloaded. Put the labels or the selector right; if the nodes are to leave, \
             annotate the CXIDriver with {MAX_UNSELECTED_ANNOTATION}=N, where N is how many may leave at the same time",
            self.limit
        )
    }
}

/// Nothing begins on a node that is held, but what KMM has begun is brought to its end.
pub fn hold(collapse: Option<&Collapse<'_>>, members: &mut [Member<'_>]) {
    let held = |member: &&mut Member<'_>| collapse.is_some_and(|all| all.nodes.contains(member.node.name.as_str()));
    for member in members.iter_mut().filter(held) {
        member.moves &= member.repair;
    }
}

/// Whether a node is about to lose its driver although it still has NICs.
fn leaves(node: &Seen<'_>) -> bool {
    let loses = |record: &NodeRollout| {
        !record.is_taken_down()
            && (record.revision.is_some() || record.target_revision.is_some() || record.goal().is_some())
    };
    // While its driver is exchanged a node shows none.
    let exchanged = |record: &NodeRollout| record.phase.traits().stage == Stage::Exchanging;
    let has_nics =
        || node.report().is_some_and(|report| !report.devices.is_empty()) || node.rollout().is_some_and(exchanged);
    !node.is_selected && node.rollout().is_some_and(loses) && has_nics()
}
