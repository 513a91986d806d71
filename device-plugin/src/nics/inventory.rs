//! The NICs of this node, as far as the kubelet needs to know them.

use std::collections::BTreeMap;

use cxi_hardware::{
    Nic, NicName, PciAddress, Scan,
    health::{Defect, Health, RetryHandler, judge},
};

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
    /// Whether pods can use it; `None` while the node cannot be scanned.
    pub health: Option<Health>,
}

impl Inventory {
    /// What `scan` says, and what is known of retry handlers.
    pub fn from_scan(scan: &Scan, retry_handlers: &BTreeMap<PciAddress, RetryHandler<'_>>) -> Self {
        let nics = scan.by_address().into_iter();
        let offered = |(address, nic)| (address, OfferedNic::new(nic, retry_handlers.get(&address).copied()));
        Self { nics: nics.map(offered).collect() }
    }

    /// The same NICs with nothing known about their health.
    #[must_use]
    pub fn not_scanned(&self) -> Self {
        let mut inventory = self.clone();
        for nic in inventory.nics.values_mut() {
            nic.health = None;
        }
        inventory
    }
}

impl OfferedNic {
    fn new(nic: &Nic, retry_handler: Option<RetryHandler<'_>>) -> Self {
        let health = Some(judge(nic, retry_handler));
        Self { name: nic.name, numa_node: nic.numa_node.clone().ok().flatten(), health }
    }

    /// Whether pods can use it for sure.
    pub fn is_usable(&self) -> bool {
        self.health.as_ref().is_some_and(Health::is_usable)
    }

    /// Whether it has no device node, so that there is nothing to hand out.
    pub fn has_no_device_node(&self) -> bool {
        self.health == Some(Health::Unusable(Defect::NoDeviceNode))
    }
}

#[cfg(test)]
mod tests {
    use cxi_hardware::{AttributeError, AttributeErrorKind, Function, Link, PciId, retry_handler::Expectation};

    use super::*;

    fn broken() -> AttributeError {
        AttributeError { path: "/sys/x".into(), kind: AttributeErrorKind::Missing }
    }

    fn from_scan(nics: Vec<Nic>) -> Inventory {
        Inventory::from_scan(&Scan { nics, unidentified: vec![] }, &BTreeMap::new())
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
    fn an_unknown_numa_node_is_none() {
        for numa_node in [Ok(None), Err(broken())] {
            assert_eq!(OfferedNic::new(&Nic { numa_node, ..nic(0, "0000:c1:00.0") }, None).numa_node, None);
        }
    }

    #[test]
    fn the_younger_of_two_devices_at_one_address_counts() {
        let inventory = from_scan(vec![nic(0, "0000:c1:00.0"), nic(2, "0000:c1:00.0")]);
        let names: Vec<_> = inventory.nics.into_values().map(|nic| nic.name).collect();
        assert_eq!(names, [NicName::new(2)]);
    }

    #[test]
    fn a_nic_without_its_retry_handler_is_not_usable() {
        let scan = Scan { nics: vec![nic(0, "0000:c1:00.0"), nic(1, "0000:c2:00.0")], unidentified: vec![] };
        let (expected, attached) = (Expectation::Attached, Ok(false));
        let none = RetryHandler { attached: &attached, record: None, expected, had_one: false };
        let inventory = Inventory::from_scan(&scan, &[("0000:c2:00.0".parse().unwrap(), none)].into());
        let usable: Vec<_> = inventory.nics.values().map(OfferedNic::is_usable).collect();
        assert_eq!(usable, [true, false]);
    }

    #[test]
    fn without_a_scan_nothing_is_healthy_and_nothing_is_forgotten() {
        let scanned = from_scan(vec![nic(0, "0000:c1:00.0")]);
        assert!(scanned.nics.values().all(OfferedNic::is_usable));
        let inventory = scanned.not_scanned();
        assert_eq!(inventory.nics.len(), 1);
        assert!(inventory.nics.values().all(|nic| nic.health.is_none() && !nic.is_usable()));
    }
}
