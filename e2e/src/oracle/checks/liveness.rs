//! I11: a node that does not get on says what it waits for.

use std::collections::BTreeMap;

use cxi_api::{NodeRollout, Phase, Timestamp};

use crate::oracle::{
    judge::{Check, Found, Invariant},
    world::{Change, World, seconds_between},
};

/// How long a node may be silent.
const BOUND: i64 = 60;

#[derive(Default)]
pub(crate) struct Liveness {
    /// Since when each node has been in a phase without a word.
    silent: BTreeMap<String, (Phase, Timestamp)>,
}

impl Check for Liveness {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        // Between ticks nothing can become too long.
        if !matches!(change, Change::Tick) {
            return;
        }
        for (name, cxi) in &world.cxi {
            let Some(rollout) = cxi.rollout.as_ref().filter(|rollout| is_silent(rollout)) else {
                self.silent.remove(name);
                continue;
            };
            let (phase, since) = *self
                .silent
                .entry(name.clone())
                .and_modify(|(phase, since)| {
                    if *phase != rollout.phase {
                        (*phase, *since) = (rollout.phase, at);
                    }
                })
                .or_insert((rollout.phase, at));
            // Verification has a deadline of its own.
            let deadline = match phase {
                Phase::Verifying => world.driver_of(name).map_or(0, |driver| {
                    i64::try_from(driver.spec.update_strategy.health_check_timeout.0.as_secs()).unwrap_or(i64::MAX)
                }),
                _ => 0,
            };
            let bound = BOUND.saturating_add(deadline);
            if seconds_between(since, at) >= bound && world.operated_for(at, bound) {
                let message = format!("{name} has been {phase} for {bound} s and does not say what it waits for");
                found.tell(at, Invariant::Liveness, message);
            }
        }
        self.silent.retain(|name, _| world.cxi.contains_key(name));
    }
}

fn is_silent(rollout: &NodeRollout) -> bool {
    let explained = rollout.blocked_by.as_ref().is_some_and(|blocker| !blocker.message.is_empty());
    let failed = rollout.failure.is_some() || rollout.last_error.is_some();
    match rollout.phase {
        Phase::UpToDate => false,
        Phase::Quarantined => !explained && !failed,
        _ => !explained,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{checks::story::Story, world::Event};
    use cxi_api::{Blocker, Reason};
    use rstest::rstest;

    #[rstest]
    #[case::silent(Phase::Loading, false, true, true)]
    #[case::pending(Phase::Pending, false, true, true)]
    #[case::explained(Phase::Loading, true, true, false)]
    #[case::done(Phase::UpToDate, false, true, false)]
    #[case::no_operator(Phase::Loading, false, false, false)]
    #[case::deadline_to_come(Phase::Verifying, false, true, false)]
    fn a_node(#[case] phase: Phase, #[case] explained: bool, #[case] operated: bool, #[case] violated: bool) {
        let mut story = Story::begin(1);
        story.tell(Event::Operator { runs: operated });
        let mut rollout = story.rollout(phase);
        rollout.blocked_by = explained.then(|| Blocker {
            reason: Reason::Loading,
            object: None,
            message: "KMM loads".into(),
            since: story.now,
        });
        story.cxi("n1", rollout);
        story.pass(BOUND + 2);
        assert_eq!(story.violates(Invariant::Liveness), violated);
    }
}
