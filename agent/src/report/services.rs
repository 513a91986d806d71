//! Services of NICs. They are read only while no unload of the driver can be under way.

use std::time::Instant;

use cxi_api::device;
use cxi_hardware::{AttributeError, Nic, Root, Services};

use crate::report::slow_facts::SlowFacts;

/// What reading the services of a NIC gave; `None` where they cannot be had.
pub(super) type SeenServices = Result<Option<Services>, AttributeError>;

/// The services of `nic`; `None` when it is gone. They come and go with pods, and reading them holds the driver for a moment:
/// where an unload may be under way (`unloads`) nothing is read, and nothing is said.
pub(super) fn read(
    known: &mut SlowFacts<SeenServices>,
    root: &Root,
    nic: &Nic,
    now: Instant,
    unloads: bool,
) -> Option<SeenServices> {
    if unloads {
        known.forget(nic);
        return Some(Ok(None));
    }
    known.read(nic, now, || Services::read(root, nic))
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
