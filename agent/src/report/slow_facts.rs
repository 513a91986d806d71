//! What is not read of a NIC with every look.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cxi_hardware::{Nic, NicName, PciAddress};

use crate::report::nic::SeenNic;

/// How long what was read is believed.
const BELIEVED_FOR: Duration = Duration::from_mins(1);

/// Something of each NIC, and when it was read.
#[derive(Debug)]
pub(super) struct SlowFacts<T>(BTreeMap<(PciAddress, NicName), (Instant, T)>);

impl<T> Default for SlowFacts<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone> SlowFacts<T> {
    /// What `nic` has, by `read` where it was not read for [`BELIEVED_FOR`]; `None` when the NIC is gone.
    pub(super) fn read(&mut self, nic: &Nic, now: Instant, read: impl FnOnce() -> Option<T>) -> Option<T> {
        let key = (nic.address, nic.name);
        if let Some((at, known)) = self.0.get(&key)
            && now.duration_since(*at) < BELIEVED_FOR
        {
            return Some(known.clone());
        }
        let fresh = read()?;
        self.0.insert(key, (now, fresh.clone()));
        Some(fresh)
    }

    /// Has `nic` read anew the next time.
    pub(super) fn forget(&mut self, nic: &Nic) {
        self.0.remove(&(nic.address, nic.name));
    }

    /// Forgets every NIC that is not among `nics`.
    pub(super) fn keep(&mut self, nics: &BTreeMap<PciAddress, SeenNic>) {
        self.0.retain(|(address, _), _| nics.contains_key(address));
    }
}
