//! What a node knows about its CXI NICs and their driver, read from sysfs, devfs and procfs.
//!
//! Everything starts at a [`Root`], so that a container reads the host's trees under its mount points and a test
//! reads a tree in a temporary directory. A NIC is known by its PCI address: the number in `cxiN` counts up with
//! every probe and starts again when the driver is reloaded.
//!
//! Invariant: nothing is guessed, and nothing here opens a device.
//!
//! Reading is total and bounded: every attribute is either a value or a typed [`AttributeError`]. A device that
//! disappears while it is being read is left out. What is asked for as a proof (loaded modules, open files) is an answer
//! about everything or an error, never a part.

mod attribute;
mod build_id;
mod cgroup;
mod details;
mod device_node;
mod device_number;
mod discovery;
mod error_counts;
pub mod health;
mod identity;
mod link_speed;
pub mod modules;
mod nic;
mod open_files;
mod pci;
pub mod retry_handler;
mod root;
mod services;
mod stack;
mod telemetry;

pub use attribute::{AttributeError, AttributeErrorKind, MAX_ATTRIBUTE_BYTES};
pub use details::{Firmware, NicDetails};
pub use device_node::DeviceNode;
pub use discovery::{Scan, ScanError, Unidentified, is_present, scan};
pub use error_counts::ErrorCounts;
pub use identity::{Boot, MacAddress};
pub use modules::{LoadedModule, ModuleState};
pub use nic::{Function, Link, Nic, NicName, NicNameError};
pub use open_files::{OpenFile, OpenFilesError, open_files, open_files_behind};
pub use pci::{PciAddress, PciAddressError, PciId};
pub use root::Root;
pub use services::{MAX_SERVICES_BYTES, Service, Services};
pub use stack::{Stack, StackError, StackModule, references_to_devices};
pub use telemetry::{Telemetry, TelemetryDirectory};
