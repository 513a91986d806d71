//! Firmware versions, which are not read with every look.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cxi_hardware::{Firmware, Nic, NicName, PciAddress, Root};

use crate::report::seen::SeenNic;

/// How long firmware versions are believed. They change only when somebody flashes the NIC, and reading them may ask
/// its microcontroller.
const FIRMWARE_PERIOD: Duration = Duration::from_mins(1);

/// Firmware versions, and when they were read.
#[derive(Debug, Default)]
pub(super) struct FirmwareCache(BTreeMap<(PciAddress, NicName), (Instant, Firmware)>);

impl FirmwareCache {
    /// The versions of `nic`; `None` when it is gone.
    pub(super) fn read(&mut self, root: &Root, nic: &Nic, now: Instant) -> Option<Firmware> {
        let key = (nic.address, nic.name);
        if let Some((at, firmware)) = self.0.get(&key)
            && now.duration_since(*at) < FIRMWARE_PERIOD
        {
            return Some(firmware.clone());
        }
        let firmware = Firmware::read(root, nic)?;
        self.0.insert(key, (now, firmware.clone()));
        Some(firmware)
    }

    /// Forgets every NIC that is not among `nics`.
    pub(super) fn keep(&mut self, nics: &BTreeMap<PciAddress, SeenNic>) {
        self.0.retain(|(address, _), _| nics.contains_key(address));
    }
}
