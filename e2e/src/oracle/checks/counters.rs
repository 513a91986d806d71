//! I12: the status counts what is there, and `Available=True` means that every node is verified.

use std::collections::BTreeMap;

use cxi_api::{Advertise, CXIDriverStatus, NodeRollout, Phase, Timestamp};

use crate::oracle::{
    facts::DriverFacts,
    judge::{Check, Found, Invariant},
    world::{Change, World, seconds_between},
};

/// How long after the last change the status may lag.
const SETTLE: i64 = 5;

/// How long an operator may take to look at a new generation.
const OBSERVE: i64 = 20;

#[derive(Default)]
pub(crate) struct Counters {
    /// Last change of anything that is counted.
    changed: Option<Timestamp>,
    /// Since when each CXIDriver has had a generation that its status does not speak of.
    unseen: BTreeMap<String, (i64, Timestamp)>,
    /// Since when each CXIDriver has been available although a node is not verified.
    false_available: BTreeMap<String, Timestamp>,
}

impl Check for Counters {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        let moved = match change {
            Change::Cxi { before, after, .. } => before != after,
            Change::Driver { before, after } => before != after,
            Change::Node { before, after, .. } => before != after,
            _ => false,
        };
        if moved {
            self.changed = Some(at);
        }
        if !matches!(change, Change::Tick | Change::Driver { .. }) {
            return;
        }
        for driver in world.drivers.values() {
            self.generation(world, driver, at, found);
            let Some(status) = &driver.status else { continue };
            if status.observed_generation == 0 {
                found.tell(at, Invariant::Truth, format!("{} has a status without observedGeneration", driver.name));
            }
            self.available(world, driver, status, at, found);
            let quiet = self.changed.is_none_or(|changed| seconds_between(changed, at) >= SETTLE);
            if quiet && world.operated_for(at, SETTLE) {
                count(world, driver, status, at, found);
            }
        }
    }
}

impl Counters {
    fn generation(&mut self, world: &World, driver: &DriverFacts, at: Timestamp, found: &mut Found) {
        let seen = driver.status.as_ref().map_or(0, |status| status.observed_generation);
        if seen >= driver.generation {
            self.unseen.remove(&driver.name);
            return;
        }
        let (generation, since) = *self.unseen.entry(driver.name.clone()).or_insert((driver.generation, at));
        if generation != driver.generation {
            self.unseen.insert(driver.name.clone(), (driver.generation, at));
        } else if seconds_between(since, at) >= OBSERVE && world.operated_for(at, OBSERVE) {
            let message = format!("{} has generation {generation}, its status speaks of {seen}", driver.name);
            found.tell(at, Invariant::Truth, message);
        }
    }

    fn available(
        &mut self,
        world: &World,
        driver: &DriverFacts,
        status: &CXIDriverStatus,
        at: Timestamp,
        found: &mut Found,
    ) {
        let claims = status.conditions.iter().any(|c| c.type_ == "Available" && c.status == "True");
        let unverified = members(world, driver).find(|(_, rollout)| {
            rollout.revision.is_none()
                || matches!(rollout.phase, Phase::Loading | Phase::Verifying | Phase::Quarantined)
        });
        let Some((name, rollout)) = unverified.filter(|_| claims) else {
            self.false_available.remove(&driver.name);
            return;
        };
        let since = *self.false_available.entry(driver.name.clone()).or_insert(at);
        if seconds_between(since, at) >= SETTLE && world.operated_for(at, SETTLE) {
            let message = format!("{} is Available although {name} is {}", driver.name, rollout.phase);
            found.tell(at, Invariant::Truth, message);
        }
    }
}

fn count(world: &World, driver: &DriverFacts, status: &CXIDriverStatus, at: Timestamp, found: &mut Found) {
    // What a driver that is taken down described last; the status names no target any more.
    let described = driver.deleting.then(|| driver.spec.revision(&driver.name));
    let target = status.target_revision.as_ref().or(described.as_ref());
    let rests = |phase| phase == Phase::UpToDate || driver.deleting && phase == Phase::Pending;
    let all: Vec<&NodeRollout> = members(world, driver).map(|(_, rollout)| rollout).collect();
    let number = |matches: &dyn Fn(&NodeRollout) -> bool| {
        i32::try_from(all.iter().filter(|rollout| matches(rollout)).count()).unwrap_or(i32::MAX)
    };
    let in_flight = status.rollout.as_ref().map_or(0, |rollout| rollout.in_flight.len());
    let counted = [
        ("total", status.total, number(&|_| true)),
        ("updated", status.updated, number(&|r| rests(r.phase) && target.is_some() && r.revision.as_ref() == target)),
        ("updating", status.updating, i32::try_from(in_flight).unwrap_or(i32::MAX)),
        ("failed", status.failed, number(&|r| r.failure.as_ref().is_some_and(|f| Some(&f.revision) == target))),
    ];
    for (name, says, is) in counted {
        if says != is {
            let message = format!("status.{name} of {} is {says}, counted {is}", driver.name);
            found.tell(at, Invariant::Truth, message);
        }
    }
    let idle = |rollout: &NodeRollout| {
        let phase = matches!(rollout.phase, Phase::UpToDate | Phase::Pending | Phase::Admitted);
        phase && rollout.revision.is_some() && rollout.advertise == Advertise::All
    };
    // A node that is down for other reasons may or may not count as ready; only what is certain is held against it.
    if status.ready > number(&idle) {
        let message = format!("status.ready of {} is {}, at most {} are", driver.name, status.ready, number(&idle));
        found.tell(at, Invariant::Truth, message);
    }
}

/// Records of the nodes that a CXIDriver has; that of a Node which is gone is only waiting for the garbage collector.
fn members<'a>(world: &'a World, driver: &'a DriverFacts) -> impl Iterator<Item = (&'a str, &'a NodeRollout)> {
    let rollouts = world.cxi.iter().filter_map(|(name, cxi)| Some((name.as_str(), cxi.rollout.as_ref()?)));
    let rollouts = rollouts.filter(|(name, _)| world.nodes.contains_key(*name));
    rollouts.filter(|(_, rollout)| rollout.driver == driver.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::checks::story::Story;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use serde_json::json;

    /// The true status of two nodes of which one is updated.
    fn truth(story: &mut Story) -> CXIDriverStatus {
        let mut updated = story.rollout(Phase::UpToDate);
        updated.revision = Some(story.new.clone());
        story.cxi("n1", updated);
        CXIDriverStatus {
            observed_generation: 2,
            target_revision: Some(story.new.clone()),
            total: 2,
            updated: 1,
            ready: 2,
            ..CXIDriverStatus::default()
        }
    }

    fn available(story: &Story) -> Vec<Condition> {
        let condition = json!({ "type": "Available", "status": "True", "reason": "r", "message": "", "lastTransitionTime": story.now });
        vec![serde_json::from_value(condition).unwrap()]
    }

    fn violations_of(change: impl Fn(&Story, &mut CXIDriverStatus)) -> Vec<Invariant> {
        let mut story = Story::begin(2);
        let mut status = truth(&mut story);
        change(&story, &mut status);
        story.status(status);
        story.pass(OBSERVE + 2);
        story.violated()
    }

    #[test]
    fn the_true_status_is_true() {
        assert_eq!(violations_of(|story, status| status.conditions = available(story)), []);
    }

    #[test]
    fn each_wrong_number_is_seen() {
        let wrong: [fn(&mut CXIDriverStatus); 6] = [
            |status| status.total = 1,
            |status| status.updated = 2,
            |status| status.updating = 1,
            |status| status.failed = 1,
            |status| status.ready = 3,
            |status| status.observed_generation = 1,
        ];
        for change in wrong {
            assert_eq!(violations_of(|_, status| change(status)), [Invariant::Truth]);
        }
    }

    #[test]
    fn available_means_verified() {
        let mut story = Story::begin(2);
        let mut status = truth(&mut story);
        status.conditions = available(&story);
        status.ready = 1;
        let mut rollout = story.rollout(Phase::Loading);
        rollout.revision = None;
        story.cxi("n2", rollout);
        story.status(status);
        story.pass(SETTLE + 2);
        assert_eq!(story.violated(), [Invariant::Truth]);
    }
}
