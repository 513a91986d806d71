//! The device ids that the kubelet hands out.

use std::{fmt, num::NonZeroU32, str::FromStr};

use cxi_api::device_list::most_per_nic;
use cxi_hardware::PciAddress;

/// How many pods may have a NIC at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A NIC has `capacity` ids.
    Shared {
        /// Pods per NIC.
        capacity: NonZeroU32,
    },
    /// A NIC has one id.
    Exclusive,
}

impl Sharing {
    /// The ids of the NIC at `address`, in order.
    pub fn ids(self, address: PciAddress) -> impl Iterator<Item = DeviceId> {
        let slots = match self {
            Self::Shared { capacity } => (0..capacity.get()).map(Some).collect(),
            Self::Exclusive => vec![None],
        };
        slots.into_iter().map(move |slot| DeviceId { address, slot })
    }

    /// The same for a node with `nics`: not more ids of each than the kubelet takes in its list of all.
    #[must_use]
    pub fn within_the_list(self, nics: usize) -> Self {
        match self {
            Self::Shared { capacity } => Self::Shared { capacity: capacity.min(most_per_nic(nics)) },
            Self::Exclusive => Self::Exclusive,
        }
    }

    /// Whether `id` is one of the ids of its NIC.
    pub fn has(self, id: DeviceId) -> bool {
        match (self, id.slot) {
            (Self::Shared { capacity }, Some(slot)) => slot < capacity.get(),
            (Self::Exclusive, None) => true,
            _ => false,
        }
    }
}

/// One id: the PCI address of a NIC, and when NICs are shared `-` and a number below the capacity.
///
/// Ids have to mean the same NIC across restarts of the plugin and reloads of the driver, because the kubelet keeps
/// them in its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceId {
    /// The NIC.
    pub address: PciAddress,
    /// Which of the shared ids, from 0; `None` for an exclusive one.
    pub slot: Option<u32>,
}

/// The text is not a device id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a device id of the form 0000:c1:00.0 or 0000:c1:00.0-7")]
pub struct DeviceIdError;

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Some(slot) => write!(f, "{}-{slot}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl FromStr for DeviceId {
    type Err = DeviceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, slot) = match text.split_once('-') {
            None => (text, None),
            Some((address, slot)) => (address, Some(slot.parse().map_err(|_| DeviceIdError)?)),
        };
        let id = Self { address: address.parse().map_err(|_| DeviceIdError)?, slot };
        if id.to_string() == text { Ok(id) } else { Err(DeviceIdError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(sharing: Sharing) -> Vec<String> {
        sharing.ids("0000:c1:00.0".parse().unwrap()).map(|id| id.to_string()).collect()
    }

    #[test]
    fn shared_nics_have_an_id_per_pod_and_exclusive_ones_a_single_id() {
        let shared = Sharing::Shared { capacity: NonZeroU32::new(3).unwrap() };
        assert_eq!(ids(shared), ["0000:c1:00.0-0", "0000:c1:00.0-1", "0000:c1:00.0-2"]);
        assert_eq!(ids(Sharing::Exclusive), ["0000:c1:00.0"]);
    }

    #[test]
    fn ids_of_another_mode_or_beyond_the_capacity_are_not_ours() {
        let shared = Sharing::Shared { capacity: NonZeroU32::new(2).unwrap() };
        for (text, in_shared, in_exclusive) in
            [("0000:c1:00.0", false, true), ("0000:c1:00.0-1", true, false), ("0000:c1:00.0-2", false, false)]
        {
            let id = text.parse().unwrap();
            assert_eq!((shared.has(id), Sharing::Exclusive.has(id)), (in_shared, in_exclusive), "{text}");
        }
    }

    #[test]
    fn accepts_what_it_prints() {
        for text in ["0000:c1:00.0", "0000:c1:00.0-0", "0000:c1:00.0-99", "10000:c1:00.0-4294967295"] {
            assert_eq!(text.parse::<DeviceId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn rejects() {
        for text in ["", "-", "cxi0", "0000:c1:00.0-", "0000:c1:00.0-01", "0000:c1:00.0-+1", "0000:c1:00.0--1"] {
            assert_eq!(text.parse::<DeviceId>(), Err(DeviceIdError), "{text:?}");
        }
    }

    #[test]
    fn any_input_is_an_id_or_refused() {
        cxi_any_input::text(&["0000:c1:00.0", "0000:c1:00.0-99", "10000:c1:00.0-4294967295"], &|text| {
            let id = text.parse::<DeviceId>();
            assert!(id.is_err() || id.is_ok_and(|id| id.to_string() == text));
            id.is_ok().into()
        });
    }
}
