//! What the operator remembers beside its caches ([`Remembered`]), shared by its tasks.

use std::sync::{Mutex, PoisonError};

pub use cxi_world::remembered::{Applied, Refused, Remembered};

/// See the module.
#[derive(Default)]
pub struct Memory(Mutex<Remembered>);

impl Memory {
    /// A copy of everything.
    pub fn recall(&self) -> Remembered {
        self.with(|remembered| remembered.clone())
    }

    /// Reads or changes it.
    pub fn with<T>(&self, f: impl FnOnce(&mut Remembered) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
