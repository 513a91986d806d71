//! Waiting time after failures.

use std::time::Duration;

/// Waiting time after a first failure; doubled with each up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(200);

/// The operator waits for this node's report, so it must not lag for long after an outage of the API server.
const LONGEST: Duration = Duration::from_secs(5);

/// A request that takes longer has failed.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Grows with every failure in a row.
#[derive(Debug, Default)]
pub(super) struct Delay(Option<Duration>);

impl Delay {
    /// After a success.
    pub(super) fn reset(&mut self) {
        self.0 = None;
    }

    /// Whether the last attempt failed.
    pub(super) fn is_failing(&self) -> bool {
        self.0.is_some()
    }

    /// After a failure: how long to wait.
    pub(super) fn next(&mut self) -> Duration {
        let delay = self.0.map_or(SHORTEST, |delay| (delay * 2).min(LONGEST));
        self.0 = Some(delay);
        delay
    }
}
