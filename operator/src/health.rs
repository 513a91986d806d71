//! Signs of life: what has to happen again and again, and when it last did.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What the health endpoints read.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    start: Instant,
    pulses: Mutex<Vec<Registered>>,
    ready: AtomicBool,
    held_back: AtomicBool,
}

struct Registered {
    name: String,
    every: Duration,
    last: Arc<AtomicU64>,
}

/// A sign of life of a task.
#[derive(Clone)]
pub struct Pulse {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Default for Health {
    fn default() -> Self {
        let inner = Inner {
            start: Instant::now(),
            pulses: Mutex::default(),
            ready: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
        };
        Self(Arc::new(inner))
    }
}

impl Health {
    /// Something that must give a sign of life at least `every` so often.
    pub fn expect(&self, name: impl Into<String>, every: Duration) -> Pulse {
        let pulse = Pulse { start: self.0.start, last: Arc::default() };
        pulse.beat();
        let registered = Registered { name: name.into(), every, last: pulse.last.clone() };
        self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(registered);
        pulse
    }

    /// Everything has been read that planning needs.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    /// Something must be done before the operator counts as ready, whatever has been read; or it was done.
    pub fn hold_back(&self, held_back: bool) {
        self.0.held_back.store(held_back, Ordering::Relaxed);
    }

    /// See [`Health::set_ready`] and [`Health::hold_back`].
    pub fn ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed) && !self.0.held_back.load(Ordering::Relaxed)
    }

    /// Names of what has given no sign of life for too long.
    pub fn stuck(&self) -> Vec<String> {
        let now = self.0.start.elapsed();
        let pulses = self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let late =
            |p: &&Registered| now.saturating_sub(Duration::from_millis(p.last.load(Ordering::Relaxed))) > p.every;
        pulses.iter().filter(late).map(|pulse| pulse.name.clone()).collect()
    }
}

impl Pulse {
    /// Gives a sign of life.
    pub fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_not_ready() {
        let health = Health::default();
        health.hold_back(true);
        health.set_ready(true);
        assert!(!health.ready());
        health.hold_back(false);
        assert!(health.ready());
    }

    #[test]
    fn says_who_is_stuck() {
        let health = Health::default();
        let slow = health.expect("slow", Duration::from_millis(20));
        health.expect("patient", Duration::from_hours(1));
        assert!(health.stuck().is_empty());
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(health.stuck(), ["slow"]);
        slow.beat();
        assert!(health.stuck().is_empty());
    }
}
