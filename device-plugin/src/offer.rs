//! What the kubelet is told: every id with its health.

pub mod allocate;
pub mod cxinode;
pub mod gate;
pub mod preferred;
pub mod provision;
pub mod publisher;

use std::{collections::BTreeSet, sync::Arc};

use cxi_api::Advertise;
use cxi_injection::provision::Provision;

use crate::{
    kubelet_api::{
        device_id::{DeviceId, Sharing},
        proto::v1beta1::{Device, HEALTHY, NumaNode, TopologyInfo, UNHEALTHY},
    },
    nics::inventory::{Inventory, OfferedNic},
};

/// Which ids may be offered at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Every id.
    Open,
    /// Ids that are allocated. Nothing new fits, and holders keep theirs across a restart of the kubelet, which
    /// refuses to start a container again whose device is not healthy.
    InUse(BTreeSet<DeviceId>),
    /// None.
    Closed,
}

impl Gate {
    /// The gate of a node that is to advertise `wanted`, where the ids `allocated` belong to pods.
    pub fn of(wanted: Advertise, allocated: BTreeSet<DeviceId>) -> Self {
        match wanted {
            Advertise::All => Self::Open,
            Advertise::InUse => Self::InUse(allocated),
            Advertise::None => Self::Closed,
        }
    }

    fn admits(&self, id: DeviceId) -> bool {
        match self {
            Self::Open => true,
            Self::InUse(allocated) => allocated.contains(&id),
            Self::Closed => false,
        }
    }
}

/// The state that all answers to the kubelet are made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The NICs.
    pub inventory: Inventory,
    /// The ids per NIC.
    pub sharing: Sharing,
    /// The ids that may be offered.
    pub gate: Gate,
    /// What a container gets besides its NICs.
    pub provision: Arc<Provision>,
    /// Whether the runtime is told what belongs to a NIC in a CDI file, which says all of this already.
    pub cdi: bool,
}

impl Published {
    /// Every id of every NIC, in a stable order. An id is healthy when its NIC is and the gate admits it; a NIC that
    /// is not there has no ids, so that a node without NICs offers zero.
    pub fn devices(&self) -> Vec<Device> {
        let ids = self.inventory.nics.iter().flat_map(|(address, nic)| {
            let topology = topology(nic);
            self.sharing.ids(*address).map(move |id| (id, nic, topology.clone()))
        });
        ids.map(|(id, nic, topology)| {
            let healthy = nic.is_usable() && self.gate.admits(id);
            Device { id: id.to_string(), health: if healthy { HEALTHY } else { UNHEALTHY }.to_owned(), topology }
        })
        .collect()
    }
}

fn topology(nic: &OfferedNic) -> Option<TopologyInfo> {
    nic.numa_node.map(|node| TopologyInfo { nodes: vec![NumaNode { id: node.into() }] })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU32;

    use cxi_hardware::{
        NicName,
        health::{Defect, Health},
    };

    use super::*;

    /// NICs `(address, numa node)`, all healthy, named in this order.
    pub(crate) fn inventory(nics: &[(&str, Option<u32>)]) -> Inventory {
        let nics = nics.iter().zip(0..).map(|((address, numa_node), number)| {
            let nic = OfferedNic { name: NicName::new(number), numa_node: *numa_node, health: Some(Health::Usable) };
            (address.parse().unwrap(), nic)
        });
        Inventory { nics: nics.collect() }
    }

    /// Everything is offered, and nothing comes with it.
    pub(crate) fn open(inventory: Inventory, sharing: Sharing) -> Published {
        Published { inventory, sharing, gate: Gate::Open, provision: Arc::default(), cdi: false }
    }

    pub(crate) fn shared(capacity: u32) -> Sharing {
        Sharing::Shared { capacity: NonZeroU32::new(capacity).unwrap() }
    }

    const A: &str = "0000:01:00.0";
    const B: &str = "0000:c1:00.0";

    fn healthy(published: &Published) -> Vec<String> {
        let devices = published.devices().into_iter();
        devices.filter(|device| device.health == HEALTHY).map(|device| device.id).collect()
    }

    #[test]
    fn no_nics_are_no_ids() {
        let published = open(Inventory::default(), shared(100));
        assert!(published.devices().is_empty());
    }

    #[test]
    fn every_id_carries_its_numa_node() {
        let inventory = inventory(&[(A, Some(0)), (B, None)]);
        let published = open(inventory, shared(2));
        let nodes: Vec<_> = published
            .devices()
            .into_iter()
            .map(|device| (device.id, device.topology.map(|topology| topology.nodes[0].id)))
            .collect();
        let expected = [
            (format!("{A}-0"), Some(0)),
            (format!("{A}-1"), Some(0)),
            (format!("{B}-0"), None),
            (format!("{B}-1"), None),
        ];
        assert_eq!(nodes, expected);
    }

    #[test]
    fn a_kubelet_takes_every_list() {
        use prost::Message as _;

        let length = |nics: u32, capacity: u32| {
            let nics = (0..nics).map(|number| {
                // The longest addresses, and the longest word for health.
                let address = format!("{:08x}:{:02x}:{:02x}.{}", u32::MAX, number >> 8, number >> 3 & 31, number & 7);
                let health = None;
                (address.parse().unwrap(), OfferedNic { name: NicName::new(number), numa_node: Some(u32::MAX), health })
            });
            let inventory = Inventory { nics: nics.collect() };
            let sharing = shared(capacity).within_the_list(inventory.nics.len());
            let devices = open(inventory, sharing).devices();
            (devices.len(), crate::kubelet_api::proto::v1beta1::ListAndWatchResponse { devices }.encoded_len())
        };
        for (nics, capacity) in [(8, 10_000), (12, 10_000), (16, 10_000), (68, 2000), (260, 1000), (520, 250), (1, 100)]
        {
            let (ids, bytes) = length(nics, capacity);
            assert!(bytes <= cxi_api::device_list::MAX_LIST_BYTES, "{nics} NICs, {capacity} each: {bytes} bytes");
            assert!(bytes > 3 << 20 || ids == (nics * capacity) as usize, "{nics} NICs, {capacity} each: only {ids}");
        }
    }

    #[test]
    fn the_gate_and_the_hardware_both_have_to_agree() {
        let mut inventory = inventory(&[(A, Some(0)), (B, Some(1))]);
        inventory.nics.get_mut(&B.parse().unwrap()).unwrap().health = Some(Health::Unusable(Defect::LinkDown));
        let in_use = BTreeSet::from([format!("{A}-1").parse().unwrap(), format!("{B}-0").parse().unwrap()]);
        for (gate, expected) in [
            (Gate::Open, vec![format!("{A}-0"), format!("{A}-1")]),
            (Gate::InUse(in_use), vec![format!("{A}-1")]),
            (Gate::InUse(BTreeSet::new()), vec![]),
            (Gate::Closed, vec![]),
        ] {
            let published = Published { gate, ..open(inventory.clone(), shared(2)) };
            assert_eq!(healthy(&published), expected);
            assert_eq!(published.devices().len(), 4, "the ids stay, whatever their health");
        }
    }
}
