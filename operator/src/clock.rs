//! The operator's clock. Wall-clock time that does not go back by a little: timers are persisted timestamps, and one that has run
//! out must not run out a second time because a clock was corrected. When the clock is put back by more than that, it was wrong
//! before, and its time is taken as it is: otherwise no timer would run until the wrong time comes. When it is put forward, what
//! was seen before seems longer ago than it is; that is noticed by a second clock, which no administrator sets.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cxi_api::Timestamp;

/// By how much more than the other the wall clock may go on between two looks at both, before it was put forward.
const STEP: Duration = Duration::from_secs(1);

/// By how much the wall clock may go back and the time stands still instead.
const BACK: Duration = Duration::from_mins(1);

/// See the module.
#[derive(Clone, Default)]
pub struct Clock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The latest time that was told.
    last: Timestamp,
    /// Both clocks when they were last looked at.
    seen: Option<(Timestamp, Instant)>,
    steps: u64,
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.told(Timestamp::now(), Instant::now())
    }

    /// How often the clock was put forward, or back by much, until now.
    pub fn steps(&self) -> u64 {
        self.now();
        self.state().steps
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, wall: Timestamp, steady: Instant) -> Timestamp {
        let mut state = self.state();
        if let Some((before, since)) = state.seen {
            let passed = steady.saturating_duration_since(since) + STEP;
            state.steps += u64::from(Duration::try_from(wall.duration_since(before)).is_ok_and(|by| by > passed));
        }
        state.seen = Some((wall, steady));
        if Duration::try_from(state.last.duration_since(wall)).is_ok_and(|by| by > BACK) {
            state.last = wall;
            state.steps += 1;
        }
        state.last = wall.max(state.last);
        state.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn stands_still_when_it_is_put_back_by_a_little() {
        let (clock, now) = (Clock::default(), Instant::now());
        assert_eq!(clock.told(at(200), now), at(200));
        assert_eq!(clock.told(at(140), now), at(200));
        assert_eq!(clock.state().steps, 0);
    }

    /// A year ahead, then right: what was seen meanwhile is forgotten, and time goes on.
    #[test]
    fn follows_when_it_is_put_back_by_much() {
        let (clock, now) = (Clock::default(), Instant::now());
        assert_eq!(clock.told(at(31_536_200), now), at(31_536_200));
        assert_eq!(clock.told(at(200), now), at(200));
        assert_eq!(clock.state().steps, 1);
        assert_eq!(clock.told(at(205), now + Duration::from_secs(5)), at(205));
        assert_eq!(clock.state().steps, 1);
    }

    #[test]
    fn is_noticed_when_it_is_put_forward() {
        let (clock, begin) = (Clock::default(), Instant::now());
        // Seconds by the wall and by the other; the first reading is no step.
        for (wall, steady, steps) in
            [(1000, 0, 0), (1010, 10, 0), (1011, 10, 0), (1100, 12, 1), (1110, 22, 1), (1060, 23, 1), (1065, 28, 1)]
        {
            clock.told(at(wall), begin + Duration::from_secs(steady));
            assert_eq!(clock.state().steps, steps, "{wall}");
        }
    }
}
