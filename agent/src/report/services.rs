//! Services of NICs, which are read seldom and only while nobody unloads the driver.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cxi_api::device;
use cxi_hardware::{AttributeError, Nic, NicName, PciAddress, Root, Services};

use crate::report::seen::SeenNic;

/// How long services are believed. They come and go with pods, and reading them holds the driver for a moment.
const SERVICES_PERIOD: Duration = Duration::from_mins(1);

/// What reading the services of a NIC gave; `None` where they cannot be had.
pub(super) type SeenServices = Result<Option<Services>, AttributeError>;

/// Services, and when they were read.
#[derive(Debug, Default)]
pub(super) struct ServicesCache(BTreeMap<(PciAddress, NicName), (Instant, SeenServices)>);

impl ServicesCache {
    /// The services of `nic`; `None` when it is gone. Where an unload may be under way nothing is read, and nothing is said.
    pub(super) fn read(&mut self, root: &Root, nic: &Nic, now: Instant, unloads: bool) -> Option<SeenServices> {
        let key = (nic.address, nic.name);
        if unloads {
            self.0.remove(&key);
            return Some(Ok(None));
        }
        if let Some((at, services)) = self.0.get(&key)
            && now.duration_since(*at) < SERVICES_PERIOD
        {
            return Some(services.clone());
        }
        let services = Services::read(root, nic)?;
        self.0.insert(key, (now, services.clone()));
        Some(services)
    }

    /// Forgets every NIC that is not among `nics`.
    pub(super) fn keep(&mut self, nics: &BTreeMap<PciAddress, SeenNic>) {
        self.0.retain(|(address, _), _| nics.contains_key(address));
    }
}

/// Their part of the CXIDevice.
pub(super) fn status(services: &Services) -> device::Services {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    device::Services {
        total: count(services.services.len()),
        in_use: count(services.services.iter().filter(|service| service.in_use).count()),
        enabled: services.enabled().map(count),
        default: services
            .default_enabled()
            .map(|enabled| if enabled { device::DefaultService::Enabled } else { device::DefaultService::Disabled }),
    }
}
