//! A NIC as one look saw it.

use cxi_hardware::{
    AttributeError, Firmware, Nic, NicDetails, Services,
    retry_handler::{Record, Statistics},
};

/// A NIC with everything that could be read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenNic {
    /// What decides whether a pod may have it.
    pub nic: Nic,
    /// What else it is.
    pub details: NicDetails,
    /// Its firmware.
    pub firmware: Firmware,
    /// Its services; `None` where they cannot be had, or are not asked for at present.
    pub services: Result<Option<Services>, AttributeError>,
    /// Its retry handler, beyond whether there is one.
    pub retry_handler: SeenRetryHandler,
}

/// What is seen of a NIC's retry handler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenRetryHandler {
    /// What its supervisor says, if it has one.
    pub record: Option<Record>,
    /// What it counted, if it serves that.
    pub statistics: Option<Statistics>,
    /// What could not be read.
    pub problems: Vec<AttributeError>,
}

impl SeenNic {
    /// What could not be read, except services: they come from a file for debugging, of which each release may make another,
    /// and no pod needs what it says.
    pub fn problems(&self) -> impl Iterator<Item = &AttributeError> {
        let Self { nic, details, firmware, services: _, retry_handler } = self;
        [
            nic.id.as_ref().err(),
            nic.function.as_ref().err(),
            nic.numa_node.as_ref().err(),
            nic.link_error(),
            nic.netdev.as_ref().err(),
            nic.device_node.as_ref().err(),
            details.link_speed.as_ref().err(),
            details.nid.as_ref().err(),
            details.retry_handler.as_ref().err(),
            details.total_vfs.as_ref().err(),
            details.mac.as_ref().err(),
            details.mtu.as_ref().err(),
        ]
        .into_iter()
        .flatten()
        .chain(&firmware.errors)
        .chain(&retry_handler.problems)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use cxi_hardware::{Function, Link, NicName, PciAddress, PciId};

    use super::*;

    /// The NIC with this number, of which nothing is wrong.
    pub(in crate::report) fn nic(number: u32) -> SeenNic {
        let address: PciAddress = format!("0000:c{number}:00.0").parse().unwrap();
        let nic = Nic {
            name: NicName::new(number),
            address,
            id: Ok(PciId { vendor: 0x1590, device: 0x0371 }),
            function: Ok(Function::Physical),
            numa_node: Ok(Some(0)),
            link: Ok(Link::Up),
            netdev: Ok(None),
            device_node: Ok(true),
        };
        let details = NicDetails {
            link_speed: Ok(Some(400)),
            nid: Ok(Some(number)),
            retry_handler: Ok(false),
            total_vfs: Ok(None),
            mac: Ok(None),
            mtu: Ok(None),
        };
        let retry_handler = SeenRetryHandler::default();
        SeenNic { nic, details, firmware: Firmware::default(), services: Ok(None), retry_handler }
    }
}
