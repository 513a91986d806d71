//! Which node tries which release. It follows from what is written: the node that a CXIPreflight has chosen is in its status, and what
//! became of the trial is in the node's record.

use cxi_api::{
    NodeRollout,
    preflight::{After, Trial},
};

use crate::{
    intent::Intent,
    maps::Map,
    view::View,
    world::{Driver, Node, Preflight},
};

/// A node on trial.
#[derive(Clone, Copy, Debug)]
pub struct OnTrial<'a> {
    /// The CXIPreflight that it is on trial for.
    pub preflight: &'a Preflight,
    /// The release that it tries.
    pub candidate: &'a Intent<'a>,
}

/// The nodes of a CXIDriver that are on trial, by UID of the Node.
#[derive(Debug, Default)]
pub struct Trials<'a>(Map<&'a str, OnTrial<'a>>);

impl<'a> Trials<'a> {
    /// Finds them. Of several CXIPreflights that name a node the oldest has it.
    pub fn of(view: &'a View<'a>, driver: &Driver, intent: &Intent<'_>) -> Self {
        let mut found = Map::default();
        if driver.deleting {
            return Self(found);
        }
        for question in view.questions().filter(|question| question.preflight.spec.driver == driver.name) {
            let preflight = question.preflight;
            let (Some(candidate), Some(node)) = (question.readable(), &preflight.status.node) else { continue };
            // What the CXIDriver asks for is no trial any more.
            if preflight.deleting || candidate.revision == intent.revision {
                continue;
            }
            let record = view.nodes.get(&node.name).filter(|found| found.uid == node.uid).and_then(Node::rollout);
            if is_on_trial(preflight, record) && !is_untried(preflight, candidate, record) {
                found.entry(node.uid.as_str()).or_insert(OnTrial { preflight, candidate });
            }
        }
        Self(found)
    }

    /// What a node tries, if it is on trial.
    pub fn of_node(&self, node: &Node) -> Option<OnTrial<'a>> {
        self.0.get(node.uid.as_str()).copied()
    }
}

/// Whether the node that a CXIPreflight has chosen should be on the release in question.
fn is_on_trial(preflight: &Preflight, record: Option<&NodeRollout>) -> bool {
    match result(preflight, record) {
        Some(trial) if trial.is_over() => {
            let released = preflight.status.node.as_ref().is_some_and(|node| node.released);
            trial.passed() && preflight.spec.after == After::Keep && !released
        }
        _ => !preflight.status.is_over(),
    }
}

/// Whether the node rests on the release, and no trial has come to its end: its record was lost or edited, or it ran the release already.
pub fn is_untried(preflight: &Preflight, candidate: &Intent<'_>, record: Option<&NodeRollout>) -> bool {
    let over = result(preflight, record).is_some_and(Trial::is_over);
    let rests =
        |record: &NodeRollout| record.phase.is_settled() && record.revision.as_ref() == Some(&candidate.revision);
    !over && record.is_some_and(rests)
}

/// What a node showed for a CXIPreflight: what its record says, or, where the record was lost, what was copied from it.
pub fn result<'a>(preflight: &'a Preflight, record: Option<&'a NodeRollout>) -> Option<&'a Trial> {
    let written = record.and_then(|record| record.trial.as_ref()).filter(|trial| trial.preflight == preflight.uid);
    written.or_else(|| preflight.status.node.as_ref()?.trial.as_ref().filter(|trial| trial.is_over()))
}
