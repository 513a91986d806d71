//! The operator's clock. Its time goes on as the wall clock does, but not by leaps: time limits are persisted timestamps that are
//! compared with it, and a correction of the wall clock is no time that a node had.
//!
//! Put **back** by a little, time stands still: a limit that has run out must not run out a second time. Put back by more, the
//! clock was wrong before, and its time is taken as it is: otherwise no limit would run until the wrong time comes.
//!
//! Put **forward**, what was seen before seems longer ago than it is, and limits that run would end at once, with healthy nodes
//! taken for failed ones. A second clock, which no administrator sets, tells that. The operator's time then lags behind by what
//! was leapt over until [`Clock::rests`] says that no limit runs any more; meanwhile it makes up a little at a time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cxi_api::Timestamp;
use jiff::SignedDuration;

/// By how much more than the other the wall clock may go on between two looks at both, before it was put forward.
const STEP: Duration = Duration::from_secs(1);

/// By how much the wall clock may go back and the time stands still instead.
const BACK: Duration = Duration::from_mins(1);

/// One part in so many of the time that passes is made up while limits run: they end at most that much too early.
const MAKES_UP: u32 = 20;

/// See the module.
#[derive(Clone, Default)]
pub struct Clock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The latest time that was told.
    last: Timestamp,
    /// Both clocks when they were last looked at.
    seen: Option<(Timestamp, Instant)>,
    /// By how much the time that is told is behind the wall clock.
    lag: Duration,
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

    /// No time limit runs: from here on the wall clock counts again, wherever it was put.
    pub fn rests(&self) {
        self.state().lag = Duration::ZERO;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, wall: Timestamp, steady: Instant) -> Timestamp {
        let mut state = self.state();
        if let Some((before, since)) = state.seen {
            let passed = steady.saturating_duration_since(since);
            // How much more the wall clock went on than time did.
            let leapt = wall.duration_since(before).saturating_sub(passed.try_into().unwrap_or(SignedDuration::MAX));
            let by = leapt.unsigned_abs();
            if by <= STEP {
                state.lag = state.lag.saturating_sub(passed / MAKES_UP);
            } else if leapt.is_negative() {
                // Of what was leapt over, that much is taken back.
                state.lag = state.lag.saturating_sub(by);
            } else {
                state.steps += 1;
                state.lag = state.lag.saturating_add(by);
            }
        }
        state.seen = Some((wall, steady));
        let told = wall.checked_sub(state.lag).unwrap_or(wall);
        if Duration::try_from(state.last.duration_since(told)).is_ok_and(|by| by > BACK) {
            state.last = told;
            state.steps += 1;
        }
        state.last = told.max(state.last);
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

    /// Seconds by the wall and by the other clock, and the second that is told.
    fn follow(clock: &Clock, begin: Instant, times: &[(i64, u64, i64)]) {
        for &(wall, steady, expected) in times {
            let told = clock.told(at(wall), begin + Duration::from_secs(steady));
            assert_eq!(told.as_second(), expected, "the wall clock says {wall} after {steady} s");
        }
    }

    #[test]
    fn what_the_clock_is_put_forward_by_is_no_time_that_passed() {
        let (clock, begin) = (Clock::default(), Instant::now());
        // A quarter of an hour; then two minutes pass, of which it makes up 6 s.
        follow(&clock, begin, &[(1000, 0, 1000), (1910, 10, 1010), (2030, 130, 1136)]);
        // Once more, and a correction that undoes a part of it.
        follow(&clock, begin, &[(2630, 130, 1136), (2330, 130, 1136), (2350, 150, 1157)]);
        // All is made up after long, and no more than that.
        follow(&clock, begin, &[(42_350, 40_150, 42_350), (42_360, 40_160, 42_360)]);
    }

    #[test]
    fn counts_again_when_no_limit_runs() {
        let (clock, begin) = (Clock::default(), Instant::now());
        follow(&clock, begin, &[(1000, 0, 1000), (1900, 0, 1000)]);
        clock.rests();
        follow(&clock, begin, &[(1901, 1, 1901)]);
        assert_eq!(clock.state().steps, 1);
    }

    /// A clock that was a year ahead for a moment leaves nothing behind.
    #[test]
    fn forward_and_back_again_is_nothing() {
        let (clock, begin) = (Clock::default(), Instant::now());
        follow(&clock, begin, &[(1000, 0, 1000), (31_537_000, 0, 1000), (1005, 5, 1005)]);
        assert_eq!(clock.state().steps, 1);
    }
}
