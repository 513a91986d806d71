//! What a NIC is, beyond what decides whether a pod may have it.

use std::{io, path::Path};

use crate::{
    AttributeError, AttributeErrorKind, MacAddress, Nic, Root,
    attribute::{self, optional},
    discovery, identity, link_speed,
};

/// Attributes of a NIC for its inventory. Those that could not be read carry the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicDetails {
    /// Speed the link runs at, in Gb/s; `None` while it has none.
    pub link_speed: Result<Option<u32>, AttributeError>,
    /// Address in the fabric; `None` until it is set.
    pub nid: Result<Option<u32>, AttributeError>,
    /// Whether a retry handler is attached.
    pub retry_handler: Result<bool, AttributeError>,
    /// How many virtual functions it can have; `None` where it can have none.
    pub total_vfs: Result<Option<u32>, AttributeError>,
    /// Address of its network interface; `None` without one.
    pub mac: Result<Option<MacAddress>, AttributeError>,
    /// MTU of its network interface in bytes; `None` without one.
    pub mtu: Result<Option<u32>, AttributeError>,
}

/// Versions of what runs on a NIC's microcontroller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firmware {
    /// Name of the attribute and its text. Empty for a virtual function.
    pub versions: Vec<(&'static str, String)>,
    /// Versions that are there and cannot be read.
    pub errors: Vec<AttributeError>,
}

/// The version files of `uc/` (`cass_uc.c`). Never read another file of that directory unseen: `reset` acts.
const FIRMWARE: [&str; 7] = [
    "app_version",
    "bootloader_version",
    "csr1_version",
    "csr2_version",
    "oprom_version",
    "qspi_blob_version",
    "srds_version",
];

impl NicDetails {
    /// Reads the details of `nic`; `None` when it is gone by the end of reading.
    pub fn read(root: &Root, nic: &Nic) -> Option<Self> {
        let entry = root.class_directory().join(nic.name.to_string());
        let device = entry.join("device");
        let netdev = nic.netdev.as_ref().ok().and_then(Option::as_ref).map(|name| device.join("net").join(name));
        let netdev = netdev.as_deref();
        let generation = nic.id.as_ref().ok().and_then(|id| id.cassini_generation());
        let details = Self {
            link_speed: link_speed(&device, generation, netdev),
            nid: nid(&device.join("properties")),
            retry_handler: attribute::read(&device.join("properties/pct_eq"), identity::retry_handler),
            total_vfs: optional(attribute::read(&device.join("sriov_totalvfs"), identity::number)),
            mac: of_netdev(netdev, "address", |bytes| identity::mac(bytes).map(Some)),
            mtu: of_netdev(netdev, "mtu", |bytes| identity::number(bytes).map(Some)),
        };
        discovery::is_still(&entry, nic.address).then_some(details)
    }
}

impl Firmware {
    /// Reads the firmware versions of `nic`; `None` when it is gone by the end of reading. The driver may have to ask
    /// the microcontroller, so this is not for every second.
    pub fn read(root: &Root, nic: &Nic) -> Option<Self> {
        let entry = root.class_directory().join(nic.name.to_string());
        let mut firmware = Self::default();
        for name in FIRMWARE {
            match attribute::read(&entry.join("device/uc").join(name), identity::word) {
                Ok(version) => firmware.versions.push((name, version)),
                // Not every firmware has each part, and the driver prints nothing for a part without a version.
                Err(AttributeError { kind: AttributeErrorKind::Missing | AttributeErrorKind::Empty, .. }) => {}
                Err(error) => firmware.errors.push(error),
            }
        }
        discovery::is_still(&entry, nic.address).then_some(firmware)
    }
}

/// The port knows best; where it does not say (virtual functions), the network interface does.
fn link_speed(device: &Path, generation: Option<u8>, netdev: Option<&Path>) -> Result<Option<u32>, AttributeError> {
    let port = match generation {
        Some(1) => Some("port/speed"),
        Some(2) => Some("port/0/link/speed"),
        _ => None,
    };
    if let Some(port) = port {
        match attribute::read(&device.join(port), link_speed::port) {
            Err(AttributeError { kind: AttributeErrorKind::Missing, .. }) => {}
            answer => return answer,
        }
    }
    match of_netdev(netdev, "speed", link_speed::netdev) {
        // EINVAL is how an interface that is down says that it has no speed.
        Err(AttributeError { kind: AttributeErrorKind::Unreadable(io::ErrorKind::InvalidInput), .. }) => Ok(None),
        answer => answer,
    }
}

/// `nid`, or `nic_addr` which holds the same in every release that has both.
fn nid(properties: &Path) -> Result<Option<u32>, AttributeError> {
    match attribute::read(&properties.join("nid"), identity::nid) {
        Err(AttributeError { kind: AttributeErrorKind::Missing, .. }) => {
            attribute::read(&properties.join("nic_addr"), identity::nid)
        }
        answer => answer,
    }
}

/// An attribute of the network interface; `None` without one, or when it has just left this network namespace.
fn of_netdev<T>(
    netdev: Option<&Path>,
    name: &str,
    parse: impl FnOnce(&[u8]) -> Result<Option<T>, AttributeErrorKind>,
) -> Result<Option<T>, AttributeError> {
    let Some(netdev) = netdev else { return Ok(None) };
    match attribute::read(&netdev.join(name), parse) {
        Err(AttributeError { kind: AttributeErrorKind::Missing, .. }) => Ok(None),
        answer => answer,
    }
}
