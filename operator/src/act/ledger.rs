//! Who has its turn: one write per object, a pause after a failure, and nothing twice from one view.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    mem::{Discriminant, discriminant},
    time::{Duration, Instant},
};

use cxi_rollout::{Action, action::Subject};

use crate::act::Error;

/// Pause after a first failure; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(500);

/// Pause after an action was decided on a stale view: the watch is about to tell.
const PAUSE_STALE: Duration = Duration::from_millis(100);

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Status that holds counters only is written once in this time, on a small cluster.
const COUNTERS: Duration = Duration::from_secs(3);

/// On a large one, where the counters change all the time and the status is large, once in this time.
const COUNTERS_MAX: Duration = Duration::from_secs(10);

/// Nodes for each so many of which counters wait a second longer.
const NODES: u32 = 500;

/// Pauses from which on those that are over are looked for.
const SWEPT: usize = 256;

/// Whether an action has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Go,
    /// Its object is being written, or was written after the view that it was decided on.
    Busy,
    /// After a pause.
    NotBefore(Instant),
}

/// See the module.
#[derive(Default)]
pub struct Ledger {
    epoch: u64,
    under_way: HashSet<Subject>,
    done: HashMap<Subject, u64>,
    pauses: HashMap<(Subject, Discriminant<Action>), Pause>,
    /// Pauses that are over are looked for when there are so many: not at each of ten thousand failures.
    sweep_at: usize,
    statuses: HashMap<Subject, Instant>,
}

#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    failures: u32,
}

impl Ledger {
    /// Grows with every action that ends.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Asks for a turn; `Go` takes it.
    pub fn begin(&mut self, target: &Subject, action: &Action, epoch: u64, now: Instant) -> Turn {
        let done_since = self.done.get(target).is_some_and(|done| *done > epoch);
        if done_since || self.under_way.contains(target) || self.waits_for_node(action) {
            return Turn::Busy;
        }
        let pause = self.pauses.get(&(target.clone(), discriminant(action)));
        if let Some(pause) = pause.filter(|pause| pause.until > now) {
            return Turn::NotBefore(pause.until);
        }
        if let Action::WriteDriverStatus { urgent: false, status, .. } = action {
            let pause = between(status.total);
            let next = self.statuses.get(target).map(|last| *last + pause).filter(|next| *next > now);
            if let Some(next) = next {
                return Turn::NotBefore(next);
            }
        }
        self.under_way.insert(target.clone());
        Turn::Go
    }

    /// A node's place in the rollout is not written while a label of the node is on its way: an unload that is under way cannot be taken
    /// back.
    fn waits_for_node(&self, action: &Action) -> bool {
        matches!(action, Action::WriteRollout { node, .. } if self.under_way.contains(&Subject::Node(node.clone())))
    }

    /// The action ended; `None` when it was not tried.
    pub fn end(&mut self, target: &Subject, action: &Action, result: Option<&Result<(), Error>>, now: Instant) {
        self.epoch += 1;
        self.under_way.remove(target);
        // Only views that are being made right now can be older than what has just ended.
        if self.done.len() > 10_000 {
            self.done.clear();
        }
        self.done.insert(target.clone(), self.epoch);
        let key = (target.clone(), discriminant(action));
        match result {
            None => {}
            Some(Ok(())) => {
                self.pauses.remove(&key);
                if matches!(action, Action::WriteDriverStatus { .. }) {
                    self.statuses.insert(target.clone(), now);
                }
            }
            Some(Err(error)) => {
                let first = if error.is_stale() { PAUSE_STALE } else { PAUSE };
                let lasts = |pause: &Pause| pause.until + PAUSE_MAX > now;
                if self.pauses.len() >= self.sweep_at {
                    self.pauses.retain(|_, pause| lasts(pause));
                    self.sweep_at = SWEPT.max(2 * self.pauses.len());
                }
                let failures = self.pauses.get(&key).filter(|pause| lasts(pause)).map_or(0, |pause| pause.failures);
                let pause = jittered((first * 2_u32.saturating_pow(failures.min(9))).min(PAUSE_MAX));
                self.pauses.insert(key, Pause { until: now + pause, failures: failures + 1 });
            }
        }
    }
}

/// Time between two writes of counters that speak of so many nodes.
fn between(nodes: i32) -> Duration {
    let longer = Duration::from_secs((u32::try_from(nodes).unwrap_or_default() / NODES).into());
    (COUNTERS + longer).min(COUNTERS_MAX)
}

/// Between 80 and 100 percent of `time`, so that many that failed together do not come back together.
pub fn jittered(time: Duration) -> Duration {
    // The standard library's source of randomness: each state has another key.
    let random = u32::try_from(RandomState::new().hash_one(0_u8) % 1000).unwrap_or(0);
    time.mul_f64(0.8 + 0.2 * f64::from(random) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action() -> Action {
        Action::AddFinalizer { driver: "d".into() }
    }

    fn counters() -> Action {
        Action::WriteDriverStatus { driver: "d".into(), status: Box::default(), urgent: false }
    }

    fn target() -> Subject {
        action().subject()
    }

    #[test]
    fn never_two_writes_to_one_object() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        assert_eq!(ledger.begin(&target(), &action(), 0, now), Turn::Go);
        assert_eq!(ledger.begin(&target(), &counters(), 0, now), Turn::Busy);
    }

    #[test]
    fn nothing_twice_from_one_view() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let view = ledger.epoch();
        assert_eq!(ledger.begin(&target(), &action(), view, now), Turn::Go);
        ledger.end(&target(), &action(), Some(&Ok(())), now);
        assert_eq!(ledger.begin(&target(), &action(), view, now), Turn::Busy);
        assert_eq!(ledger.begin(&target(), &action(), ledger.epoch(), now), Turn::Go);
    }

    #[test]
    fn pauses_grow_and_end_with_success() {
        let (mut ledger, mut now) = (Ledger::default(), Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..3 {
            assert_eq!(ledger.begin(&target(), &action(), ledger.epoch(), now), Turn::Go);
            ledger.end(&target(), &action(), Some(&Err(Error::TimedOut)), now);
            let Turn::NotBefore(until) = ledger.begin(&target(), &action(), ledger.epoch(), now) else {
                panic!("no pause");
            };
            assert!(until - now > last);
            last = until - now;
            now = until;
        }
        assert_eq!(ledger.begin(&target(), &action(), ledger.epoch(), now), Turn::Go);
        ledger.end(&target(), &action(), Some(&Ok(())), now);
        assert_eq!(ledger.begin(&target(), &action(), ledger.epoch(), now), Turn::Go);
    }

    #[test]
    fn counters_are_written_once_a_second() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        assert_eq!(ledger.begin(&target(), &counters(), 0, now), Turn::Go);
        ledger.end(&target(), &counters(), Some(&Ok(())), now);
        let epoch = ledger.epoch();
        assert_eq!(ledger.begin(&target(), &counters(), epoch, now), Turn::NotBefore(now + COUNTERS));
        let urgent = Action::WriteDriverStatus { driver: "d".into(), status: Box::default(), urgent: true };
        assert_eq!(ledger.begin(&target(), &urgent, epoch, now), Turn::Go);
    }

    #[test]
    fn counters_of_a_large_cluster_wait_longer() {
        for (nodes, seconds) in [(0, 3), (499, 3), (500, 4), (3000, 9), (10_000, 10), (i32::MAX, 10), (-1, 3)] {
            assert_eq!(between(nodes), Duration::from_secs(seconds), "{nodes} nodes");
        }
    }

    #[test]
    fn many_failures_leave_nothing_behind_for_long() {
        let (mut ledger, mut now) = (Ledger::default(), Instant::now());
        for number in 0..2000 {
            let action = Action::AddFinalizer { driver: number.to_string() };
            ledger.end(&action.subject(), &action, Some(&Err(Error::TimedOut)), now);
            now += Duration::from_secs(1);
        }
        assert!(ledger.pauses.len() < 2 * SWEPT, "{} pauses", ledger.pauses.len());
    }
}
