//! The NICs of this node, as far as the kubelet needs to know them.

use std::collections::BTreeMap;
use std::fmt;

use cxi_hardware::{AttributeError, Link, Nic, NicName, PciAddress, Scan};

/// NICs by PCI address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The NICs.
    pub nics: BTreeMap<PciAddress, OfferedNic>,
}

/// One NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedNic {
    /// Present name; it changes when the driver is reloaded.
    pub name: NicName,
    /// NUMA node, where one is known.
    pub numa_node: Option<u32>,
    /// `Err` with the reason while no pod should get this NIC.
    pub health: Result<(), Unhealthy>,
}

/// Why no pod should get a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unhealthy {
    /// The physical link is not running.
    LinkDown,
    /// There is no device node, or something else is in its place.
    NoDeviceNode,
    /// Its retry handler was attached and is not any more.
    RetryHandlerEnded,
    /// No retry handler is attached, and one should be.
    NoRetryHandler,
    /// Something that decides about health could not be read.
    Unknown(AttributeError),
    /// The node could not be scanned, so that nothing is known about its NICs.
    NotScanned,
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkDown => f.write_str("link is down"),
            Self::NoDeviceNode => f.write_str("there is no device node in /dev"),
            Self::RetryHandlerEnded => f.write_str("its retry handler ended, and the state of the NIC is unknown"),
            Self::NoRetryHandler => f.write_str("no retry handler is attached"),
            Self::Unknown(error) => write!(f, "{error}"),
            Self::NotScanned => f.write_str("sysfs could not be read"),
        }
    }
}

impl Inventory {
    /// What `scan` says. Of two NICs that name one address the younger counts; the other is on its way out.
    pub fn from_scan(scan: &Scan) -> Self {
        let nics = scan.nics.iter().map(|nic| (nic.address, OfferedNic::from(nic)));
        Self { nics: nics.collect() }
    }

    /// The same NICs with nothing known about their health.
    #[must_use]
    pub fn not_scanned(&self) -> Self {
        let mut inventory = self.clone();
        for nic in inventory.nics.values_mut() {
            nic.health = Err(Unhealthy::NotScanned);
        }
        inventory
    }
}

impl From<&Nic> for OfferedNic {
    fn from(nic: &Nic) -> Self {
        // The node first: without it there is nothing to hand out, whatever the link says.
        let health = match (&nic.device_node, &nic.link, nic.link_error()) {
            (Ok(false), _, _) => Err(Unhealthy::NoDeviceNode),
            (Ok(true), Ok(Link::Down), _) => Err(Unhealthy::LinkDown),
            (Err(error), _, _) | (_, _, Some(error)) => Err(Unhealthy::Unknown(error.clone())),
            // Up, or nothing ever tells.
            (Ok(true), _, None) => Ok(()),
        };
        Self { name: nic.name, numa_node: nic.numa_node.clone().ok().flatten(), health }
    }
}

#[cfg(test)]
mod tests {
    use cxi_hardware::{AttributeErrorKind, Function, PciId};

    use super::*;

    fn broken() -> AttributeError {
        AttributeError { path: "/sys/x".into(), kind: AttributeErrorKind::Missing }
    }

    fn nic(number: u32, address: &str) -> Nic {
        Nic {
            name: NicName::new(number),
            address: address.parse().unwrap(),
            id: Ok(PciId::CASSINI_2),
            function: Ok(Function::Physical),
            numa_node: Ok(Some(1)),
            link: Ok(Link::Up),
            netdev: Ok(None),
            device_node: Ok(true),
        }
    }

    #[test]
    fn health_needs_a_running_link_and_a_device_node() {
        let link = |link| Nic { link, ..nic(0, "0000:c1:00.0") };
        let node = |device_node| Nic { device_node, link: Ok(Link::Down), ..nic(0, "0000:c1:00.0") };
        for (nic, health) in [
            (link(Ok(Link::Up)), Ok(())),
            (link(Ok(Link::Down)), Err(Unhealthy::LinkDown)),
            (link(Err(broken())), Err(Unhealthy::Unknown(broken()))),
            (node(Ok(false)), Err(Unhealthy::NoDeviceNode)),
            (node(Err(broken())), Err(Unhealthy::Unknown(broken()))),
        ] {
            assert_eq!(OfferedNic::from(&nic).health, health);
        }
    }

    #[test]
    fn a_virtual_function_whose_link_is_not_known_is_offered() {
        let unreadable = AttributeError { kind: AttributeErrorKind::Empty, ..broken() };
        let of = |function, link, device_node| {
            OfferedNic::from(&Nic { function, link, device_node, ..nic(0, "0000:c1:00.0") }).health
        };
        let (physical, virtual_) = (Ok(Function::Physical), Ok(Function::Virtual));
        assert_eq!(of(virtual_.clone(), Err(broken()), Ok(true)), Ok(()));
        assert_eq!(of(virtual_.clone(), Err(broken()), Ok(false)), Err(Unhealthy::NoDeviceNode));
        assert_eq!(of(virtual_.clone(), Ok(Link::Down), Ok(true)), Err(Unhealthy::LinkDown));
        assert_eq!(of(virtual_, Err(unreadable.clone()), Ok(true)), Err(Unhealthy::Unknown(unreadable)));
        assert_eq!(of(physical, Err(broken()), Ok(true)), Err(Unhealthy::Unknown(broken())));
    }

    #[test]
    fn an_unknown_numa_node_is_none() {
        for numa_node in [Ok(None), Err(broken())] {
            assert_eq!(OfferedNic::from(&Nic { numa_node, ..nic(0, "0000:c1:00.0") }).numa_node, None);
        }
    }

    #[test]
    fn the_younger_of_two_devices_at_one_address_counts() {
        let scan = Scan { nics: vec![nic(0, "0000:c1:00.0"), nic(2, "0000:c1:00.0")], unidentified: vec![] };
        let names: Vec<_> = Inventory::from_scan(&scan).nics.into_values().map(|nic| nic.name).collect();
        assert_eq!(names, [NicName::new(2)]);
    }

    #[test]
    fn without_a_scan_nothing_is_healthy_and_nothing_is_forgotten() {
        let scan = Scan { nics: vec![nic(0, "0000:c1:00.0")], unidentified: vec![] };
        let inventory = Inventory::from_scan(&scan).not_scanned();
        assert_eq!(inventory.nics.len(), 1);
        assert!(inventory.nics.values().all(|nic| nic.health == Err(Unhealthy::NotScanned)));
    }
}
