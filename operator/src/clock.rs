//! The operator's clock. Wall-clock time that never goes backwards: timers are persisted timestamps, and one that has run
//! out must not run out a second time because somebody corrected the clock.

use std::sync::{Arc, Mutex, PoisonError};

use cxi_api::Timestamp;

/// See the module.
#[derive(Clone, Default)]
pub struct Clock(Arc<Mutex<Timestamp>>);

impl Clock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.at_least(Timestamp::now())
    }

    fn at_least(&self, wall: Timestamp) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = wall.max(*last);
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_backwards() {
        let clock = Clock::default();
        let (early, late) = (Timestamp::from_second(100).unwrap(), Timestamp::from_second(200).unwrap());
        assert_eq!(clock.at_least(late), late);
        assert_eq!(clock.at_least(early), late);
    }
}
