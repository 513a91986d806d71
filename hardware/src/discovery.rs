//! Finding the NICs of a node in `/sys/class/cxi`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    AttributeError, AttributeErrorKind, DeviceNode, Function, Link, Nic, NicName, PciAddress, PciId, Root, attribute,
};

/// Everything that the class directory lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// NICs in the order of their names. While the driver probes or removes devices two of them may name the same
    /// PCI address for a moment; the later name is the younger device.
    pub nics: Vec<Nic>,
    /// Entries that are there and cannot be told apart from others.
    pub unidentified: Vec<Unidentified>,
}

impl Scan {
    /// The NICs by address. Of two that name one address this is the younger; the other is on its way out.
    pub fn by_address(&self) -> BTreeMap<PciAddress, &Nic> {
        self.nics.iter().map(|nic| (nic.address, nic)).collect()
    }
}

/// A class device whose name or PCI address is not known, so that it cannot be offered to any pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unidentified {
    /// The entry's name in the class directory, with invalid text replaced.
    pub name: String,
    /// Why it is not known.
    pub reason: AttributeError,
}

/// The class directory could not be listed, so nothing is known about the NICs of this node.
#[derive(Debug, thiserror::Error)]
#[error("list {}", path.display())]
pub struct ScanError {
    /// The directory.
    pub path: PathBuf,
    source: io::Error,
}

/// Reads all NICs under `root`.
///
/// A missing class directory is an empty scan: the driver is not loaded.
///
/// # Errors
/// When the class directory is there and cannot be listed. That is not "no NICs".
pub fn scan(root: &Root) -> Result<Scan, ScanError> {
    let class = root.class_directory();
    let failed = |source| ScanError { path: class.clone(), source };
    let entries = match fs::read_dir(&class) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Scan::default()),
        Err(error) => return Err(failed(error)),
    };
    let mut scan = Scan::default();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        match read_entry(root, &entry.path()) {
            Ok(Some(nic)) => scan.nics.push(nic),
            Ok(None) => {}
            Err(reason) => {
                let name = entry.file_name().to_string_lossy().into_owned();
                scan.unidentified.push(Unidentified { name, reason });
            }
        }
    }
    scan.nics.sort_by_key(|nic| nic.name);
    scan.unidentified.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(scan)
}

/// Reads one class device; `None` when it is gone by the end of reading.
fn read_entry(root: &Root, entry: &Path) -> Result<Option<Nic>, AttributeError> {
    let Some(address) = address(entry)? else { return Ok(None) };
    let name = name(entry)?;
    let device = entry.join("device");
    let id = pci_id(&device);
    let function = function(&device, id.as_ref().ok().copied());
    let nic = Nic {
        name,
        address,
        link: link(&device, &function),
        function,
        id,
        numa_node: attribute::read(&device.join("numa_node"), attribute::numa_node),
        netdev: netdev(&device),
        device_node: device_node(&root.device_node(name)),
    };
    // What was read belongs to this device only if it is still here under the same name.
    Ok((self::address(entry)? == Some(address)).then_some(nic))
}

fn name(entry: &Path) -> Result<NicName, AttributeError> {
    let name = entry.file_name().unwrap_or_default().to_string_lossy();
    name.parse().map_err(|_| AttributeError {
        path: entry.into(),
        kind: AttributeErrorKind::Invalid {
            found: name.chars().take(64).collect(),
            expected: "a name of the form cxi0",
        },
    })
}

/// Whether `nic` is still there under the same name: what was read of it meanwhile is its own.
pub fn is_present(root: &Root, nic: &Nic) -> bool {
    is_still(&root.class_directory().join(nic.name.to_string()), nic.address)
}

/// Whether the class device at `entry` is still that of the function at `address`.
pub(crate) fn is_still(entry: &Path, address: PciAddress) -> bool {
    self::address(entry) == Ok(Some(address))
}

/// The address that the `device` link of a class device names; `None` when the class device is gone.
fn address(entry: &Path) -> Result<Option<PciAddress>, AttributeError> {
    let link = entry.join("device");
    let kind = match fs::read_link(&link) {
        Ok(target) => {
            let last = target.file_name().unwrap_or_default().to_string_lossy();
            match last.parse() {
                Ok(address) => return Ok(Some(address)),
                Err(_) => AttributeErrorKind::Invalid {
                    found: last.chars().take(64).collect(),
                    expected: "a link to a PCI address of the form 0000:c1:00.0",
                },
            }
        }
        // Following the entry itself: it is a link in sysfs and dangles when the device goes.
        Err(_) if !entry.exists() => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => AttributeErrorKind::Invalid {
            found: "not a link".into(),
            expected: "a link to a PCI address of the form 0000:c1:00.0",
        },
        Err(error) => AttributeErrorKind::from_io(&error),
    };
    Err(AttributeError { path: link, kind })
}

fn pci_id(device: &Path) -> Result<PciId, AttributeError> {
    Ok(PciId {
        vendor: attribute::read(&device.join("vendor"), attribute::pci_id)?,
        device: attribute::read(&device.join("device"), attribute::pci_id)?,
    })
}

/// A virtual function has a link to its physical one, except inside a virtual machine. There the id decides, and
/// where both kinds share an id, the size of region 0.
fn function(device: &Path, id: Option<PciId>) -> Result<Function, AttributeError> {
    let link = device.join("physfn");
    match fs::symlink_metadata(&link) {
        Ok(_) => return Ok(Function::Virtual),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(AttributeError { path: link, kind: AttributeErrorKind::from_io(&error) }),
    }
    match id {
        Some(PciId::CASSINI_2) => Ok(Function::Physical),
        Some(PciId::CASSINI_2_VF) => Ok(Function::Virtual),
        _ => attribute::read(&device.join("resource"), attribute::cassini_1_function),
    }
}

/// The state of the port's link. The driver starts a port only with its physical function, and of a virtual one says
/// that it is down, whatever the port does: the physical one is asked. Inside a virtual machine there is none, and the
/// answer is that the attribute is missing: the state is not known.
fn link(device: &Path, function: &Result<Function, AttributeError>) -> Result<Link, AttributeError> {
    let owner = if *function == Ok(Function::Virtual) { device.join("physfn") } else { device.to_owned() };
    attribute::read(&owner.join("properties/link"), attribute::link)
}

/// The first of the interfaces under `net`, by name; the driver creates one per NIC.
fn netdev(device: &Path) -> Result<Option<String>, AttributeError> {
    let path = device.join("net");
    let failed = |error: io::Error| AttributeError { path: path.clone(), kind: AttributeErrorKind::from_io(&error) };
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut first: Option<String> = None;
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().into_string();
        let name = name.map_err(|_| AttributeError { path: path.clone(), kind: AttributeErrorKind::NotText })?;
        first = Some(first.map_or(name.clone(), |first| first.min(name)));
    }
    Ok(first)
}

/// Whether there is a device node at `path` that a container could be given.
fn device_node(path: &Path) -> Result<bool, AttributeError> {
    let kind = DeviceNode::at(path);
    let kind = kind.map_err(|error| AttributeError { path: path.into(), kind: AttributeErrorKind::from_io(&error) })?;
    Ok(kind == DeviceNode::Present)
}
