//! What the programs of a node have to keep to, and what did not.

use std::{env, process::ExitCode, time::Duration};

/// From start to ready.
const READY: Duration = Duration::from_secs(1);

/// Memory in RAM: 10 MB, which are 10,000,000 bytes.
const RESIDENT_KIB: u64 = 10_000_000 / 1024;

/// The goals that were missed.
#[derive(Debug, Default)]
pub struct Goals(Vec<String>);

impl Goals {
    /// Holds a program to the time it may take to be ready.
    pub fn ready(&mut self, what: &str, took: Duration) {
        self.hold(took < READY, || format!("{what}: {took:.0?} from start to ready, has to be less than {READY:?}"));
    }

    /// Holds a program to the memory it may need.
    pub fn resident(&mut self, what: &str, kib: u64) {
        self.hold(kib <= RESIDENT_KIB, || {
            format!("{what}: {kib} KiB in RAM, may be {RESIDENT_KIB} (10 MB of 1,000,000 bytes)")
        });
    }

    /// Notes what was missed, if it was.
    pub fn hold(&mut self, held: bool, missed: impl FnOnce() -> String) {
        if !held {
            self.0.push(missed());
        }
    }

    /// Says which goals were missed; there is no success with one.
    pub fn end(self) -> ExitCode {
        for missed in &self.0 {
            eprintln!("missed: {missed}");
        }
        if self.0.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// How long something took each time, in order.
pub struct Times(Vec<Duration>);

impl Times {
    /// Of these; there is one at least.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How often it was done.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that so many of a thousand did not take longer than.
    pub fn at(&self, permille: usize) -> Duration {
        self.0[(self.0.len() - 1) * permille / 1000]
    }

    /// The same in milliseconds.
    pub fn milliseconds(&self, permille: usize) -> f64 {
        self.at(permille).as_secs_f64() * 1000.0
    }
}

/// How often something is done in each of four rounds: a quarter of the first argument, which says how often in all.
pub fn rounds(usual: usize) -> Result<usize, ExitCode> {
    let count = env::args().nth(1).map_or(Some(usual), |count| count.parse().ok());
    count.filter(|count| *count >= 4).map(|count| count / 4).ok_or_else(|| {
        eprintln!("error: how often to measure has to be a number, 4 or more: there are four rounds");
        ExitCode::FAILURE
    })
}
