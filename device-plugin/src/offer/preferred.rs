//! Which of the free ids a container should get.
//!
//! The kubelet decides; this is advice that it follows when nothing else speaks against it. In order of weight:
//! what the kubelet insists on; one id per NIC, because a container that asks for four wants the bandwidth of four;
//! few NUMA nodes; NICs with the fewest pods on them. A NIC's free ids tell how many pods it has.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use cxi_hardware::PciAddress;

use crate::{kubelet_api::device_id::DeviceId, nics::inventory::Inventory};

/// Why there is no advice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreferredError {
    /// More ids must be included than are wanted.
    #[error("{required} device ids must be included in an allocation of {size}")]
    TooManyRequired {
        /// Ids to be included.
        required: usize,
        /// Ids wanted.
        size: usize,
    },
    /// An id that must be included is not one of this node.
    #[error("device id {0:?} must be included and is not on this node")]
    UnknownRequired(String),
    /// Fewer known ids are free than are wanted.
    #[error("{free} known device ids are free, {size} are wanted")]
    TooFew {
        /// Free ids, including those to be included.
        free: usize,
        /// Ids wanted.
        size: usize,
    },
}

/// Chooses `size` ids of `available`, `required` among them. Free ids that are not on this node are passed over.
///
/// # Errors
/// When no such choice exists.
pub fn preferred(
    inventory: &Inventory,
    available: &[String],
    required: &[String],
    size: usize,
) -> Result<Vec<DeviceId>, PreferredError> {
    let known = |text: &String| text.parse::<DeviceId>().ok().filter(|id| inventory.nics.contains_key(&id.address));
    let required: BTreeSet<DeviceId> = required
        .iter()
        .map(|text| known(text).ok_or_else(|| PreferredError::UnknownRequired(text.clone())))
        .collect::<Result<_, _>>()?;
    if required.len() > size {
        return Err(PreferredError::TooManyRequired { required: required.len(), size });
    }
    let free: BTreeSet<DeviceId> = available.iter().filter_map(known).filter(|id| !required.contains(id)).collect();
    if required.len() + free.len() < size {
        return Err(PreferredError::TooFew { free: required.len() + free.len(), size });
    }
    let mut choice = Choice::new(inventory, &free, required);
    while choice.chosen.len() < size {
        choice.take_from_one_numa_node(size - choice.chosen.len());
    }
    Ok(choice.chosen)
}

/// A choice under way.
struct Choice<'a> {
    inventory: &'a Inventory,
    /// Free ids by NIC, lowest first.
    free: BTreeMap<PciAddress, VecDeque<DeviceId>>,
    /// How many ids each NIC had free at the beginning.
    idle: BTreeMap<PciAddress, usize>,
    /// NICs that gave an id in this round; a new round begins when every NIC with free ids gave one.
    used: BTreeSet<PciAddress>,
    chosen: Vec<DeviceId>,
}

impl<'a> Choice<'a> {
    fn new(inventory: &'a Inventory, free: &BTreeSet<DeviceId>, required: BTreeSet<DeviceId>) -> Self {
        let mut by_nic: BTreeMap<PciAddress, VecDeque<DeviceId>> = BTreeMap::new();
        for id in free {
            by_nic.entry(id.address).or_default().push_back(*id);
        }
        Self {
            inventory,
            idle: by_nic.iter().map(|(address, ids)| (*address, ids.len())).collect(),
            free: by_nic,
            used: required.iter().map(|id| id.address).collect(),
            chosen: required.into_iter().collect(),
        }
    }

    /// Adds at least one and at most `wanted` ids, one per NIC, all from the NUMA node that suits best.
    /// There has to be a free id.
    fn take_from_one_numa_node(&mut self, wanted: usize) {
        let mut nodes: BTreeMap<_, Vec<PciAddress>> = BTreeMap::new();
        for (address, _) in self.free.iter().filter(|(address, ids)| !ids.is_empty() && !self.used.contains(address)) {
            nodes.entry(self.numa_node(*address)).or_default().push(*address);
        }
        for nics in nodes.values_mut() {
            nics.sort_by_key(|address| (Reverse(self.idle[address]), *address));
        }
        let entered: BTreeSet<_> = self.chosen.iter().map(|id| self.numa_node(id.address)).collect();
        let best = nodes.into_iter().max_by_key(|(node, nics)| {
            let suffices = nics.len() >= wanted;
            let idle: usize = nics.iter().take(wanted).map(|address| self.idle[address]).sum();
            // The smallest node that suffices leaves the larger ones whole; else the largest needs the fewest others.
            let size = if suffices { -(nics.len().cast_signed()) } else { nics.len().cast_signed() };
            let weight = if suffices { (idle.cast_signed(), size) } else { (size, idle.cast_signed()) };
            (entered.contains(node), suffices, weight, Reverse(*node))
        });
        match best {
            None => self.used.clear(),
            Some((_, nics)) => {
                for address in nics.into_iter().take(wanted) {
                    self.chosen.extend(self.free.get_mut(&address).and_then(VecDeque::pop_front));
                    self.used.insert(address);
                }
            }
        }
    }

    /// The NUMA node of a NIC; NICs without one come last.
    fn numa_node(&self, address: PciAddress) -> u32 {
        self.inventory.nics.get(&address).and_then(|nic| nic.numa_node).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kubelet_api::device_id::Sharing,
        offer::tests::{inventory, shared},
    };

    /// NICs a, b on NUMA node 0, c, d, e on 1 and f on none.
    const NICS: [(&str, Option<u32>); 6] = [
        ("0000:0a:00.0", Some(0)),
        ("0000:0b:00.0", Some(0)),
        ("0000:0c:00.0", Some(1)),
        ("0000:0d:00.0", Some(1)),
        ("0000:0e:00.0", Some(1)),
        ("0000:0f:00.0", None),
    ];

    /// Writes `a`, `a3` as the id of NIC a (its slot 3).
    fn id(short: &str) -> String {
        let (nic, slot) = short.split_at(1);
        if slot.is_empty() { format!("0000:0{nic}:00.0") } else { format!("0000:0{nic}:00.0-{slot}") }
    }

    fn ids(short: &str) -> Vec<String> {
        short.split_whitespace().map(id).collect()
    }

    fn choose(available: &[String], required: &str, size: usize) -> Vec<String> {
        let chosen = preferred(&inventory(&NICS), available, &ids(required), size).unwrap();
        assert_eq!(chosen.len(), size);
        let mut chosen: Vec<_> = chosen.iter().map(ToString::to_string).collect();
        chosen.sort();
        chosen
    }

    #[test]
    fn exclusive_nics_are_packed_by_numa_node() {
        for (available, required, size, expected) in [
            // The smaller node suffices for two and leaves the larger whole.
            ("a b c d e", "", 2, "a b"),
            ("a b c d e", "", 1, "a"),
            ("b c d e", "", 1, "b"),
            ("a b c d e", "", 3, "c d e"),
            // No node suffices: the largest, then the rest.
            ("a b c d e", "", 4, "a c d e"),
            ("a b c d e f", "", 6, "a b c d e f"),
            // What the kubelet insists on comes first, then its NUMA node.
            ("a b c d e", "d", 2, "c d"),
            ("a b c d e", "a", 3, "a b c"),
            ("a b c d e", "b c", 3, "a b c"),
            // No NUMA node known: last resort.
            ("f e", "", 1, "e"),
            ("f", "", 1, "f"),
            ("a", "", 0, ""),
        ] {
            let chosen = choose(&ids(available), required, size);
            assert_eq!(chosen, ids(expected), "{available} with {required:?}, {size} of them");
        }
    }

    #[test]
    fn shared_ids_spread_over_nics() {
        for (available, required, size, expected) in [
            // The NIC with the most free ids has the fewest pods.
            ("a1 b0 b1 c0 c1 c2", "", 1, "c0"),
            ("a0 a1 b0 b1", "", 1, "a0"),
            ("a1 b0 b1", "", 1, "b0"),
            // Several NICs before several ids of one, even across NUMA nodes.
            ("a0 a1 a2 c0", "", 2, "a0 c0"),
            ("a0 a1 a2 b0 c0 c1 c2 d0 d1", "", 2, "c0 d0"),
            // More ids than NICs: every NIC gives one before any gives two.
            ("a0 a1 b0 b1", "", 3, "a0 a1 b0"),
            ("a0 a1 b0 b1", "a1", 2, "a1 b0"),
            ("a0 a1", "a1", 2, "a0 a1"),
        ] {
            let chosen = choose(&ids(available), required, size);
            assert_eq!(chosen, ids(expected), "{available} with {required:?}, {size} of them");
        }
    }

    #[test]
    fn pods_that_come_one_by_one_end_up_evenly_spread() {
        let inventory = inventory(&NICS);
        let mut available: Vec<String> =
            inventory.nics.keys().flat_map(|nic| shared(8).ids(*nic)).map(|id| id.to_string()).collect();
        let mut pods: BTreeMap<PciAddress, u32> = BTreeMap::new();
        for _ in 0..24 {
            let id = preferred(&inventory, &available, &[], 1).unwrap()[0];
            available.retain(|free| *free != id.to_string());
            *pods.entry(id.address).or_default() += 1;
        }
        assert!(pods.values().all(|count| *count == 4), "{pods:?}");
    }

    #[test]
    fn refuses_what_cannot_be() {
        let inventory = inventory(&NICS);
        let refuse =
            |available, required, size| preferred(&inventory, &ids(available), &ids(required), size).unwrap_err();
        assert_eq!(refuse("a b", "a b", 1), PreferredError::TooManyRequired { required: 2, size: 1 });
        assert_eq!(refuse("a b", "", 3), PreferredError::TooFew { free: 2, size: 3 });
        assert_eq!(refuse("a 9", "", 2), PreferredError::TooFew { free: 1, size: 2 });
        assert_eq!(refuse("a", "9", 1), PreferredError::UnknownRequired(id("9")));
    }

    #[test]
    fn every_mix_of_ids_gives_as_many_as_wanted() {
        let inventory = inventory(&NICS);
        let all: Vec<String> =
            inventory.nics.keys().flat_map(|nic| Sharing::ids(shared(2), *nic)).map(|id| id.to_string()).collect();
        for mask in 0_u32..1 << all.len() {
            let available: Vec<_> =
                all.iter().zip(0..).filter(|(_, bit)| mask & (1 << bit) != 0).map(|(id, _)| id.clone()).collect();
            let size = available.len() / 2;
            let chosen = preferred(&inventory, &available, &[], size).unwrap();
            assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), size);
            assert!(chosen.iter().all(|id| available.contains(&id.to_string())));
        }
    }
}
