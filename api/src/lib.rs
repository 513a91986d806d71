//! The API of the CXI operator: what administrators write, what the operator and its node agents report, and the part of
//! KMM's API that the operator uses. Types and names only; nothing here does I/O.

#[cfg(test)]
mod as_installed;
pub mod blocker;
pub mod crds;
pub mod device;
pub mod device_list;
pub mod driver;
pub mod driver_status;
pub mod duration;
pub mod kmm;
pub mod layout;
pub mod lenient;
mod limits;
pub mod modules;
pub mod names;
pub mod node;
pub mod node_report;
pub mod outcome;
pub mod phase;
pub mod plugin_rules;
pub mod revision;
pub mod source;
pub mod strategy;
pub mod transaction;

pub use blocker::{Blocker, ObjectInTheWay, Reason};
pub use cxi_driver_image_format::manifest::{self, ImageManifest};
pub use device::{CXIDevice, CXIDeviceStatus};
pub use driver::{CXIDriver, CXIDriverSpec};
pub use driver_status::CXIDriverStatus;
pub use duration::GoDuration;
pub use modules::KernelModule;
pub use node::{Advertise, CXINode, CXINodeSpec, CXINodeStatus, NodeRollout};
pub use node_report::NodeReport;
pub use outcome::Outcome;
pub use phase::Phase;
pub use revision::RevisionId;
pub use transaction::{Transaction, Why};

/// An instant, written as RFC 3339 in UTC with as many fractional digits as it has (so it survives a round trip exactly).
pub type Timestamp = jiff::Timestamp;
