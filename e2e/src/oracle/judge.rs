//! The oracle's core: a fold over events that collects violations. Pure; time comes with each event.

use std::{collections::BTreeSet, fmt};

use cxi_api::Timestamp;

use super::{
    checks,
    world::{Change, Event, World},
};

/// An invariant of the ordered upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// I1: never more nodes unavailable than `maxUnavailable` allows.
    Budget,
    /// I2: no driver is pulled from under a holder.
    NoPullUnderLoad,
    /// I3: nothing is advertised that was not proved loaded.
    NoFalseAdvertising,
    /// I4: never two of our drivers on a node.
    OneDriver,
    /// I5: nothing is done twice.
    Once,
    /// I6: pods leave by eviction only.
    EvictionOnly,
    /// I7: too many failures stop the rollout.
    StopOnFailure,
    /// I8: who does not hold a NIC is not disturbed.
    LeastDisturbance,
    /// I9: before the unload everything can be taken back without a reload.
    Cancel,
    /// I10: other people's fields stay as they are.
    ForeignFields,
    /// I11: every wait says what it waits for.
    Liveness,
    /// I12: the status is true.
    Truth,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When it was seen.
    pub at: Timestamp,
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} I{} {:?}: {}", self.at, self.invariant as u8 + 1, self.invariant, self.message)
    }
}

/// One invariant, watched over time.
pub(crate) trait Check: Send {
    /// Looks at what an event changed; `world` is the state after it.
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found);
}

/// Collects violations; the same one is told once.
#[derive(Debug, Default)]
pub(crate) struct Found {
    told: BTreeSet<(Invariant, String)>,
    pub(crate) violations: Vec<Violation>,
}

impl Found {
    pub(crate) fn tell(&mut self, at: Timestamp, invariant: Invariant, message: String) {
        if self.told.insert((invariant, message.clone())) {
            self.violations.push(Violation { at, invariant, message });
        }
    }
}

/// Judges a story told in events.
pub struct Judge {
    world: World,
    checks: Vec<Box<dyn Check>>,
    found: Found,
}

impl Default for Judge {
    fn default() -> Self {
        Self { world: World::default(), checks: checks::all(), found: Found::default() }
    }
}

impl Judge {
    /// Takes in the next event. Times must not go back.
    pub fn observe(&mut self, at: Timestamp, event: Event) {
        let change = self.world.fold(at, event);
        for check in &mut self.checks {
            check.observe(&self.world, &change, at, &mut self.found);
        }
    }

    /// How many Nodes the story has told of that are still there.
    pub fn nodes(&self) -> usize {
        self.world.nodes.len()
    }

    /// What was found so far.
    pub fn violations(&self) -> &[Violation] {
        &self.found.violations
    }
}
