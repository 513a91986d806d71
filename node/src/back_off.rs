//! The waiting time after failures in a row.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// A waiting time that doubles with every failure in a row.
#[derive(Debug)]
pub struct BackOff {
    longest: Duration,
    delays: ExponentialBuilder,
    failing: Option<ExponentialBackoff>,
}

impl BackOff {
    /// Waits `shortest` after a first failure, and at most `longest`.
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        let delays = ExponentialBuilder::new()
            .with_factor(2.0)
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .without_max_times();
        Self { longest, delays, failing: None }
    }

    /// For calls to the API server, 200 ms to 5 s: the operator waits for what a node's programs say, so none of them may lag for
    /// long after an outage of the API server.
    pub fn of_api_calls() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5))
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.failing = None;
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// After a failure: how long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delays = self.failing.get_or_insert_with(|| self.delays.build());
        // Without a largest number of attempts there always is a next one.
        delays.next().unwrap_or(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_doubles_up_to_the_longest_and_begins_anew_after_a_success() {
        let mut back_off = BackOff::of_api_calls();
        assert!(!back_off.is_failing());
        let delays: Vec<_> = (0..8).map(|_| back_off.next_delay().as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert!(back_off.is_failing());
        back_off.reset();
        assert!(!back_off.is_failing());
        assert_eq!(back_off.next_delay(), Duration::from_millis(200));
    }

    #[test]
    fn it_never_gives_up() {
        let mut back_off = BackOff::new(Duration::from_millis(1), Duration::from_millis(2));
        assert!((0..10_000).all(|_| back_off.next_delay() <= Duration::from_millis(2)));
    }
}
