//! I1: when a node is taken away, no more nodes are unavailable than `maxUnavailable` allows.

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::{Advertise, Phase, Timestamp};

use crate::oracle::{
    facts::{DriverFacts, NodeFacts},
    judge::{Check, Found, Invariant},
    world::{Change, World, down_otherwise, seconds_between},
};

/// A node that went down by itself this short a time ago could not be known.
const RACE: i64 = 2;

/// For so long may an operator act on a budget that has since been changed.
const STALE_BUDGET: i64 = 10;

#[derive(Default)]
pub(crate) struct Budget {
    /// Nodes that went down without us, and when.
    down: BTreeMap<String, Timestamp>,
    /// Nodes that were in service once, by name and UID.
    served: BTreeSet<(String, String)>,
    /// Budgets of each CXIDriver, with the time until which each was valid.
    budgets: BTreeMap<String, Vec<(usize, Timestamp)>>,
}

impl Check for Budget {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        let counts_change = match change {
            Change::Driver { .. } | Change::Tick => true,
            Change::Node { before, after, .. } => before.is_none() || after.is_none(),
            Change::Cxi { before, after, .. } => before.is_none() || after.is_none(),
            Change::Pod { .. } | Change::Truth(_) => false,
        };
        if counts_change {
            self.note_budgets(world, at);
        }
        if let Some((name, how)) = taken(world, change)
            && !world.labels_by_hand(at, name)
            && let Some(driver) = world.driver_of(name)
        {
            let unavailable = self.unavailable(world, driver, at);
            let budget = self.budgets.get(&driver.name).into_iter().flatten().map(|(b, _)| *b).max().unwrap_or(0);
            if unavailable.len() > budget {
                let message = format!(
                    "{name} was taken away ({how}) with a budget of {budget}; unavailable now: {}",
                    unavailable.join(", ")
                );
                found.tell(at, Invariant::Budget, message);
            }
        }
        match change {
            Change::Node { name, .. } | Change::Cxi { name, .. } => self.note_node(world, name, at),
            Change::Driver { .. } | Change::Tick => {
                world.nodes.keys().for_each(|name| self.note_node(world, name, at));
            }
            Change::Pod { .. } | Change::Truth(_) => {}
        }
    }
}

impl Budget {
    fn note_budgets(&mut self, world: &World, at: Timestamp) {
        for driver in world.drivers.values() {
            let nodes = world.nodes_of(&driver.name).len();
            let budget = driver.spec.update_strategy.budget(nodes).unwrap_or(0);
            let budgets = self.budgets.entry(driver.name.clone()).or_default();
            budgets.retain(|(_, until)| seconds_between(*until, at) < STALE_BUDGET);
            match budgets.iter_mut().find(|(known, _)| *known == budget) {
                Some((_, until)) => *until = at,
                None => budgets.push((budget, at)),
            }
        }
    }

    fn note_node(&mut self, world: &World, name: &str, at: Timestamp) {
        let Some(node) = world.nodes.get(name) else {
            self.down.remove(name);
            return;
        };
        let Some(driver) = world.driver_of(name) else { return };
        if down_otherwise(driver, node) {
            self.down.entry(name.to_owned()).or_insert(at);
        } else {
            self.down.remove(name);
            if !world.closed_by_us(driver, node) {
                self.served.insert((name.to_owned(), node.uid.clone()));
            }
        }
    }

    fn unavailable(&self, world: &World, driver: &DriverFacts, at: Timestamp) -> Vec<String> {
        let is_down = |name: &&str| {
            let Some(node) = world.nodes.get(*name) else { return false };
            // A node that never served is being installed; nothing was taken away there.
            let counts = self.served.contains(&((*name).to_owned(), node.uid.clone()))
                || world.phase(name) == Some(Phase::Quarantined);
            let known = self.down.get(*name).is_some_and(|since| seconds_between(*since, at) >= RACE);
            counts && (world.closed_by_us(driver, node) || (down_otherwise(driver, node) && known))
        };
        world.nodes_of(&driver.name).into_iter().filter(is_down).map(str::to_owned).collect()
    }
}

/// The node that a change took away, if it was in service before.
fn taken<'a>(world: &World, change: &'a Change) -> Option<(&'a str, &'static str)> {
    match change {
        Change::Node { name, before: Some(before), after: Some(after) } => {
            let driver = world.driver_of(name)?;
            let open = |node: &NodeFacts| node.gate(&driver.name).is_some();
            let offered = world.cxi.get(name)?.rollout.as_ref()?.advertise == Advertise::All;
            let served = open(before) && offered && !down_otherwise(driver, before);
            (served && !open(after)).then_some((name, "gate removed"))
        }
        Change::Cxi { name, before: Some(before), after: Some(after) } => {
            let driver = world.driver_of(name)?;
            let node = world.nodes.get(name)?;
            let all = |rollout: &Option<cxi_api::NodeRollout>| {
                rollout.as_ref().is_some_and(|rollout| rollout.advertise == Advertise::All)
            };
            let served = all(&before.rollout)
                && (node.gate(&driver.name).is_some() || !driver.spec.device_plugin.enabled)
                && !down_otherwise(driver, node);
            (served && !all(&after.rollout)).then_some((name, "advertises less"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{checks::story::Story, world::Event};

    fn close(story: &mut Story, name: &str) {
        story.phase(name, Phase::Closing);
        let node = story.closed(name);
        story.tell(Event::Node(node));
    }

    #[test]
    fn one_after_the_other_is_fine() {
        let mut story = Story::begin(3);
        close(&mut story, "n1");
        story.phase("n1", Phase::UpToDate);
        let back = story.node("n1");
        story.tell(Event::Node(back));
        close(&mut story, "n2");
        assert_eq!(story.violated(), []);
    }

    #[test]
    fn two_at_once_are_too_many() {
        for waiting in [false, true] {
            let mut story = Story::begin(3);
            close(&mut story, "n1");
            if waiting {
                story.phase("n2", Phase::Waiting);
            } else {
                close(&mut story, "n2");
            }
            assert_eq!(story.violated(), [Invariant::Budget]);
        }
    }

    #[test]
    fn a_node_that_is_down_counts_unless_it_went_just_now() {
        for (known_for, violated) in [(5, vec![Invariant::Budget]), (0, vec![])] {
            let mut story = Story::begin(3);
            let lost = NodeFacts { ready: false, ..story.node("n3") };
            story.tell(Event::Node(lost));
            story.pass(known_for);
            close(&mut story, "n1");
            assert_eq!(story.violated(), violated);
        }
    }

    #[test]
    fn a_node_that_never_served_is_not_taken_away() {
        let mut story = Story::begin(1);
        let fresh = story.closed("n9");
        story.tell(Event::Node(fresh));
        story.phase("n9", Phase::Loading);
        close(&mut story, "n1");
        assert_eq!(story.violated(), []);
    }
}
