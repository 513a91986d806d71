//! I7: failures stop the rollout, and a stopped rollout admits nobody.

use std::collections::BTreeMap;

use cxi_api::{Timestamp, Why, driver_status::Rollout, names::UPGRADE_LABEL};

use crate::oracle::{
    facts::DriverFacts,
    judge::{Check, Found, Invariant},
    world::{Change, World, seconds_between},
};

/// For so long a node that was admitted is given to say why.
const LAG: i64 = 1;

/// A node that appeared on the ledger of a halted rollout.
struct Suspect {
    at: Timestamp,
    driver: String,
    rollout: String,
    node: String,
}

#[derive(Default)]
pub(crate) struct Halt {
    /// Most nodes in flight, by rollout.
    in_flight: BTreeMap<String, usize>,
    suspects: Vec<Suspect>,
}

impl Check for Halt {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        if let Change::Driver { before, after: Some(after), .. } = change
            && let Some(rollout) = rollout(after)
        {
            self.count(after, rollout, at, found);
            if let Some(earlier) = before.as_deref().and_then(self::rollout).filter(|earlier| earlier.id == rollout.id)
                && earlier.halted.is_some()
                && rollout.halted.is_some()
            {
                let new = rollout.in_flight.iter().filter(|entry| {
                    !earlier.in_flight.iter().any(|e| e.node == entry.node && e.attempt == entry.attempt)
                });
                self.suspects.extend(new.map(|entry| Suspect {
                    at,
                    driver: after.name.clone(),
                    rollout: rollout.id.clone(),
                    node: entry.node.clone(),
                }));
            }
        }
        self.convict(world, at, found);
    }
}

impl Halt {
    fn count(&mut self, driver: &DriverFacts, rollout: &Rollout, at: Timestamp, found: &mut Found) {
        let most = self.in_flight.entry(rollout.id.clone()).or_default();
        *most = (*most).max(rollout.in_flight.len());
        let limit = usize::try_from(driver.spec.update_strategy.max_failed).unwrap_or(1) + most.saturating_sub(1);
        if rollout.failed.len() > limit {
            let names: Vec<&str> = rollout.failed.iter().map(|failed| failed.node.as_str()).collect();
            let message = format!("{} failed in rollout {}, more than {limit}", names.join(", "), rollout.id);
            found.tell(at, Invariant::StopOnFailure, message);
        }
    }

    fn convict(&mut self, world: &World, at: Timestamp, found: &mut Found) {
        self.suspects.retain(|suspect| {
            if seconds_between(suspect.at, at) < LAG {
                return true;
            }
            let halted = world.drivers.get(&suspect.driver).map(Box::as_ref).and_then(rollout);
            let Some(to) = halted.filter(|rollout| rollout.id == suspect.rollout).and_then(|r| r.to.as_ref()) else {
                return false;
            };
            let record = world.cxi.get(&suspect.node).and_then(|cxi| cxi.rollout.as_ref());
            let asked = world.nodes.get(&suspect.node).is_some_and(|node| node.labels.contains_key(UPGRADE_LABEL));
            let forward = record.is_some_and(|record| record.why() == Some(Why::Wanted) && record.goal() == Some(to));
            if forward && !asked {
                let message = format!("{} was admitted although rollout {} halted", suspect.node, suspect.rollout);
                found.tell(at, Invariant::StopOnFailure, message);
            }
            false
        });
    }
}

fn rollout(driver: &DriverFacts) -> Option<&Rollout> {
    driver.status.as_ref()?.rollout.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::checks::story::Story;
    use cxi_api::{CXIDriverStatus, Phase};
    use serde_json::json;

    fn ledger(story: &Story, in_flight: &[&str], failed: &[&str], halted: bool) -> CXIDriverStatus {
        let at = story.now;
        let mut rollout = json!({
            "id": "r", "to": story.new, "startedAt": at,
            "inFlight": in_flight.iter().map(|n| json!({ "node": n, "uid": n, "attempt": 1, "admittedAt": at })).collect::<Vec<_>>(),
            "failed": failed.iter().map(|n| json!({ "node": n, "message": "m", "at": at })).collect::<Vec<_>>(),
        });
        if halted {
            rollout["halted"] = json!({ "message": "m", "at": at });
        }
        CXIDriverStatus { rollout: serde_json::from_value(rollout).unwrap(), ..CXIDriverStatus::default() }
    }

    #[test]
    fn those_in_flight_may_still_fail_but_no_more() {
        for (failed, violated) in [(vec!["n1", "n2"], false), (vec!["n1", "n2", "n3"], true)] {
            let mut story = Story::begin(3);
            let status = ledger(&story, &["n1", "n2"], &[], false);
            story.status(status);
            let status = ledger(&story, &[], &failed, true);
            story.status(status);
            assert_eq!(story.violates(Invariant::StopOnFailure), violated);
        }
    }

    #[test]
    fn nobody_goes_forward_after_the_halt() {
        for (why, violated) in [(Why::Wanted, true), (Why::Repair, false)] {
            let mut story = Story::begin(2);
            let status = ledger(&story, &["n1"], &["n1"], true);
            story.status(status);
            let status = ledger(&story, &["n1", "n2"], &["n1"], true);
            story.status(status);
            let mut rollout = story.rollout(Phase::Admitted);
            rollout.transaction = Some(story.transaction(why));
            story.cxi("n2", rollout);
            story.pass(2);
            assert_eq!(story.violates(Invariant::StopOnFailure), violated);
        }
    }
}
