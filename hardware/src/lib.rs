//! What a node knows about its CXI NICs, read from sysfs and devfs.
//!
//! Everything starts at a [`Root`], so that a container reads the host's trees under its mount points and a test
//! reads a tree in a temporary directory. A NIC is known by its PCI address: the number in `cxiN` counts up with
//! every probe and starts again when the driver is reloaded.
//!
//! Reading is total: every attribute is either a value or a typed [`AttributeError`]. Nothing is guessed, and a
//! device that disappears while it is being read is left out of the scan.

mod attribute;
mod discovery;
mod nic;
mod pci;
mod root;

pub use attribute::{AttributeError, AttributeErrorKind, MAX_ATTRIBUTE_BYTES};
pub use discovery::{Scan, ScanError, Unidentified, scan};
pub use nic::{Function, Link, Nic, NicName, NicNameError};
pub use pci::{PciAddress, PciAddressError, PciId};
pub use root::Root;
