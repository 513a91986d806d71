//! Which looks at a node count for a step, and which are kept. A look counts because the step ordered it: its identity says so,
//! not the time that has passed since. So a slow operator proves as much as a fast one.

use cxi_api::{NodeReport, NodeRollout, Timestamp};

use crate::world::{Look, Node};

/// Looks that are kept of a node: two that are far enough apart, and room for two that a later step asks for in between.
pub const KEPT: usize = 4;

/// The steps whose looks and reports count: the present one, and the earlier one whose evidence still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    since: Timestamp,
    evidence: Option<Timestamp>,
}

impl Steps {
    /// The steps of a record.
    pub fn of(record: &NodeRollout) -> Self {
        Self { since: record.since, evidence: record.evidence_since }
    }

    /// Only the present step of a record.
    pub fn present(record: &NodeRollout) -> Self {
        Self { since: record.since, evidence: None }
    }

    /// Whether a look or a report of the step that began at `step` counts.
    pub fn has(&self, step: Timestamp) -> bool {
        step == self.since || self.evidence == Some(step)
    }

    /// Whether the agent made a report for one of these steps. The agent hands back the time that it read in the record; times are
    /// not compared, because a clock that was wrong once would make old answers look like new ones.
    pub fn answered_by(&self, report: &NodeReport) -> bool {
        report.acknowledged.is_some_and(|step| self.has(step))
    }

    /// The looks at a node that count, oldest first.
    pub fn looks(self, node: &Node) -> impl DoubleEndedIterator<Item = &Look> {
        node.looks.iter().filter(move |look| self.has(look.step))
    }
}

/// Adds a look; of more than [`KEPT`] the oldest goes.
pub fn keep(looks: &mut Vec<Look>, look: Look) {
    looks.push(look);
    let surplus = looks.len().saturating_sub(KEPT);
    looks.drain(..surplus);
}
