//! The operator's clock. Wall-clock time that never goes backwards: timers are persisted timestamps, and one that has run
//! out must not run out a second time because somebody corrected the clock. When it is put forward, what was seen before seems
//! longer ago than it is; that is noticed by a second clock that nobody sets.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cxi_api::Timestamp;

/// By how much more than the other the wall clock may go on between two looks at both, before it was put forward.
const STEP: Duration = Duration::from_secs(1);

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

    /// How often the clock was put forward until now.
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
    fn never_goes_backwards() {
        let (clock, now) = (Clock::default(), Instant::now());
        assert_eq!(clock.told(at(200), now), at(200));
        assert_eq!(clock.told(at(100), now), at(200));
        assert_eq!(clock.state().steps, 0);
    }

    #[test]
    fn is_noticed_when_it_is_put_forward() {
        let (clock, begin) = (Clock::default(), Instant::now());
        // Seconds by the wall and by the other; the first reading is no step.
        for (wall, steady, steps) in
            [(1000, 0, 0), (1010, 10, 0), (1011, 10, 0), (1100, 12, 1), (1110, 22, 1), (900, 23, 1), (905, 28, 1)]
        {
            clock.told(at(wall), begin + Duration::from_secs(steady));
            assert_eq!(clock.state().steps, steps, "{wall}");
        }
    }
}
