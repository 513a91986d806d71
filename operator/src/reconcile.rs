//! The loop: observe, plan, act. One task plans; it is poked by every change and by every action that ends.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cxi_api::Timestamp;
use cxi_rollout::{Action, Settings, looks, plan};
use tokio::{
    sync::Notify,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    act::Actor,
    clock::Clock,
    health::{Health, Pulse},
    memory::Memory,
    metrics::Metrics,
    notices,
    observe::{self, Caches, Identity, Snapshot},
};

/// Changes come in swarms: plans are at least this far apart.
const BETWEEN: Duration = Duration::from_millis(50);

/// A plan takes milliseconds for each hundred nodes, and heartbeats of a thousand never end: of a processor's time planning
/// gets at most one part in so many.
const SHARE: u32 = 5;

/// A turn that took long is not followed by a pause longer than this: steps would come later still.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A plan is made at least this often. Nothing should depend on it.
const RESYNC: Duration = Duration::from_secs(30);

/// A turn that takes longer is worth a word: what was looked at is old when it is acted upon.
const SLOW: Duration = Duration::from_secs(1);

/// What the loop works with.
pub struct Loop {
    /// What is known.
    pub caches: Arc<Caches>,
    /// What is remembered.
    pub memory: Arc<Memory>,
    /// Who carries plans out.
    pub actor: Actor,
    /// Who we are.
    pub identity: Identity,
    /// Time limits.
    pub settings: Settings,
    /// The clock.
    pub clock: Clock,
    /// Metrics.
    pub metrics: Metrics,
    /// Poked by changes.
    pub changed: Arc<Notify>,
    /// Whether the last turn was slow.
    pub slow: AtomicBool,
    /// Tests only: how much longer each turn takes, between what it sees and what it does.
    #[cfg(feature = "faults")]
    pub delay: Duration,
}

/// Says when everything has been read for the first time. An object that cannot be read is said by its cache, and named in the
/// condition or the record that it is about.
pub async fn keep_ready(caches: Arc<Caches>, health: Health) {
    let mut said = None;
    let mut was_ready = false;
    loop {
        let waiting = caches.waiting_for();
        health.set_ready(waiting.is_none());
        if waiting != said {
            match (&waiting, was_ready) {
                (Some(what), true) => warn!("nothing is planned: {what}"),
                (Some(what), false) => debug!("nothing is planned yet: {what}"),
                (None, _) => info!("everything has been read"),
            }
            was_ready |= waiting.is_none();
            said = waiting;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

impl Loop {
    /// Works until `stop`.
    pub async fn run(&self, pulse: &Pulse, stop: &CancellationToken) {
        loop {
            pulse.beat();
            let began = Instant::now();
            let wake = self.turn().unwrap_or(began + RESYNC).min(began + RESYNC);
            let next = began + BETWEEN.max(pace(began.elapsed()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = sleep_until(wake.into()) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(next.into()) => {}
            }
        }
    }

    /// Plans and acts once. Returns when the next turn makes sense, if a timer decides that.
    fn turn(&self) -> Option<Instant> {
        if self.caches.waiting_for().is_some() {
            return Some(Instant::now() + Duration::from_secs(1));
        }
        let began = Instant::now();
        // The mark comes first: what ends from here on may or may not be in the snapshot.
        let epoch = self.actor.epoch();
        let seen = Arc::new(self.caches.snapshot());
        self.forget(&seen);
        let world = observe::build(&seen, &self.memory.recall(), &self.identity);
        if !cxi_rollout::has_limits(&world) {
            self.clock.rests();
        }
        let now = self.clock.now();
        let observed = began.elapsed();
        let mut planned = plan(&world, now, &self.settings);
        let decided = began.elapsed();
        let notices = notices::standing(&world, &self.identity.images);
        let new = self.memory.with(|memory| notices::news(notices, &mut memory.told));
        planned.actions.extend(new.into_iter().map(Action::Announce));
        self.metrics.world(&world, now);
        let actions = planned.actions.len();
        #[cfg(feature = "faults")]
        std::thread::sleep(self.delay);
        let again = self.actor.submit(planned.actions, &seen, epoch);
        let took = Turn {
            observed,
            planned: decided.saturating_sub(observed),
            began: began.elapsed().saturating_sub(decided),
            nodes: world.nodes.len(),
            actions,
        };
        self.metrics.reconciled(took.whole());
        took.tell(&self.slow);
        let timer = planned.wake.map(|wake| Instant::now() + until(wake, now));
        [again, timer].into_iter().flatten().min()
    }

    fn forget(&self, seen: &Snapshot) {
        let phases: HashMap<String, Timestamp> = seen
            .records
            .iter()
            .filter_map(|record| {
                let place = record.readable()?.place()?;
                Some((record.id.name().to_owned(), looks::count_from(place)?))
            })
            .collect();
        let pods: BTreeSet<String> = seen.holders.iter().map(|pod| pod.id.uid.to_string()).collect();
        let steps = self.clock.steps();
        let put_back = self.caches.put_back();
        self.memory.with(|memory| {
            memory.database_put_back(put_back);
            memory.forget(&phases, &pods);
            memory.clock_stepped(steps);
        });
    }
}

/// Where the time of a turn went.
#[derive(Clone, Copy, Debug)]
struct Turn {
    observed: Duration,
    planned: Duration,
    began: Duration,
    nodes: usize,
    actions: usize,
}

impl Turn {
    fn whole(&self) -> Duration {
        self.observed + self.planned + self.began
    }

    /// Says when turns become slow, and when they are fast again; not at each of them.
    fn tell(&self, slow: &AtomicBool) {
        let Turn { observed, planned, began, nodes, actions } = *self;
        match self.news(slow) {
            Some(true) => warn!(
                ?observed,
                ?planned,
                ?began,
                nodes,
                actions,
                "a turn took {:.1} s: steps come late, see the metric cxi_reconcile_duration_seconds",
                self.whole().as_secs_f64()
            ),
            Some(false) => info!("turns take less than {} s again", SLOW.as_secs()),
            None => {}
        }
    }

    /// Whether turns have become slow with this one, or fast again.
    fn news(&self, slow: &AtomicBool) -> Option<bool> {
        let is = self.whole() > SLOW;
        (slow.swap(is, Ordering::Relaxed) != is).then_some(is)
    }
}

/// How long after the beginning of a turn that took so long the next one may begin.
fn pace(took: Duration) -> Duration {
    (took * SHARE).min(took + LONGEST_PAUSE)
}

/// Time until a timer runs out, rounded up to the next millisecond so that it has run out when one wakes.
fn until(wake: Timestamp, now: Timestamp) -> Duration {
    let left = wake.duration_since(now);
    if left.is_negative() { BETWEEN } else { left.unsigned_abs() + Duration::from_millis(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_turns_are_said_once() {
        let slow = AtomicBool::new(false);
        let turn = |millis: u64| Turn {
            observed: Duration::from_millis(millis / 2),
            planned: Duration::from_millis(millis / 2),
            began: Duration::ZERO,
            nodes: 1,
            actions: 0,
        };
        let said: Vec<_> = [20, 1200, 3000, 1000, 20, 1500].map(|millis| turn(millis).news(&slow)).into();
        assert_eq!(said, [None, Some(true), None, Some(false), None, Some(true)]);
    }
}
