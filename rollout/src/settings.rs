//! Time limits of the engine that are the same for every CXIDriver: flags of the operator.

use std::time::Duration;

use cxi_api::{NodeRollout, Outcome};

/// Time limits and pauses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pulling the driver image on a node may take this long; then the node waits its turn again.
    pub prefetch: Duration,
    /// KMM may take this long to unload; then the node has failed. The unload itself is never forced.
    pub unload: Duration,
    /// KMM may take this long to load; then the node has failed.
    pub load: Duration,
    /// The device plugin may take this long to offer the NICs again; then the node has failed.
    pub give_back: Duration,
    /// Time between the two checks that must both find the device free.
    pub look_gap: Duration,
    /// How long a process outside Kubernetes may hold the device before the node is given back.
    pub host_holder: Duration,
    /// How long a node is left alone after a try that was taken back; doubles with each try up to `back_off_max`.
    pub back_off: Duration,
    /// See `back_off`.
    pub back_off_max: Duration,
    /// How long a node must not be selected before its driver is taken away (a label that comes and goes starts nothing).
    pub unselected: Duration,
    /// Restarts of a KMM load worker after which the load counts as failed before its time limit.
    pub load_restarts: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefetch: Duration::from_mins(15),
            unload: Duration::from_mins(10),
            load: Duration::from_mins(10),
            give_back: Duration::from_mins(5),
            look_gap: Duration::from_secs(2),
            host_holder: Duration::from_secs(15),
            back_off: Duration::from_mins(30),
            back_off_max: Duration::from_hours(24),
            unselected: Duration::from_secs(30),
            load_restarts: 3,
        }
    }
}

impl Settings {
    /// Pause before the next try: doubles with each try in a row that was taken back.
    pub fn back_off_after(&self, record: &NodeRollout) -> Duration {
        let row = record.history.iter().rev().take_while(|entry| entry.result == Outcome::GivenBack).count();
        let factor = 2u32.saturating_pow(u32::try_from(row).unwrap_or(u32::MAX).min(16));
        self.back_off.saturating_mul(factor).min(self.back_off_max)
    }
}
