//! Which looks at a node count for a step, and which are kept. A look counts because the step ordered it: its identity says so,
//! not the time that has passed since. So a slow operator proves as much as a fast one.

use std::collections::BTreeMap;

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

/// Since when looks at a node count, if they are of use in its phase.
pub fn count_from(record: &NodeRollout) -> Option<Timestamp> {
    record.phase.traits().looks.then(|| record.evidence_from())
}

/// The looks that are kept in memory, by node. Which are kept is part of the safety argument, so the operator and the simulator keep them
/// by this one rule: those for the evidence that counts, and of more than [`KEPT`] the last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Looks(BTreeMap<String, (Timestamp, Vec<Look>)>);

impl Looks {
    /// Adds a look at a node, made for the evidence that counts from `since` on.
    pub fn add(&mut self, node: &str, since: Timestamp, look: Look) {
        let (from, looks) = self.0.entry(node.to_owned()).or_insert_with(|| (since, Vec::new()));
        if *from != since {
            *from = since;
            looks.clear();
        }
        looks.push(look);
        let surplus = looks.len().saturating_sub(KEPT);
        looks.drain(..surplus);
    }

    /// The looks at a node, oldest first.
    pub fn at(&self, node: &str) -> &[Look] {
        self.0.get(node).map_or(&[], |(_, looks)| looks)
    }

    /// Keeps the looks at nodes for which they still count from the same time on; see [`count_from`].
    pub fn retain(&mut self, since: impl Fn(&str) -> Option<Timestamp>) {
        self.0.retain(|node, (from, _)| since(node) == Some(*from));
    }

    /// Forgets the looks at one node.
    pub fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(second: i64) -> Look {
        let at = Timestamp::from_second(second).unwrap();
        Look { step: at, at, allocatable: 0, plugin_pods: 0, retry_handler_pods: 0, holders: Vec::new(), report: None }
    }

    #[test]
    fn looks_of_the_evidence_that_counts_are_kept_and_of_these_the_last() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let seconds = |looks: &Looks| looks.at("n1").iter().map(|look| look.at.as_second()).collect::<Vec<_>>();
        let mut looks = Looks::default();
        looks.add("n1", at(1), look(10));
        looks.add("n1", at(2), look(11));
        assert_eq!(seconds(&looks), [11]);
        looks.retain(|node| (node == "n1").then(|| at(2)));
        assert_eq!(seconds(&looks), [11]);
        for second in 12..=15 {
            looks.add("n1", at(2), look(second));
        }
        assert_eq!(seconds(&looks), [12, 13, 14, 15]);
        looks.retain(|_| None);
        assert!(looks.is_empty());
    }
}
