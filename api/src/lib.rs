//! The API of the CXI operator: what administrators write, what the operator and its node agents report, and the part of
//! KMM's API that the operator uses. Types and names only; nothing here does I/O.

#[cfg(test)]
mod as_installed;
pub mod crds;
pub mod duration;
pub mod images;
pub mod kmm;
pub mod lenient;
pub mod names;
pub mod v1;

pub use duration::GoDuration;
use v1::limits;
pub use v1::{
    blocker::{self, Blocker, ObjectInTheWay, Reason},
    device::{self, CXIDevice, CXIDeviceStatus},
    device_list, device_plugin,
    driver::{self, CXIDriver, CXIDriverSpec},
    driver_status::{self, CXIDriverStatus},
    layout,
    node::{self, Advertise, CXINode, CXINodeSpec, CXINodeStatus, NodeRollout},
    node_report::{self, NodeReport},
    outcome::{self, Outcome},
    phase::{self, Phase},
    plugin_rules,
    revision::{self, RevisionId},
    source, strategy,
    transaction::{self, Transaction, Why},
};

/// An instant, written as RFC 3339 in UTC with as many fractional digits as it has (so it survives a round trip exactly).
pub type Timestamp = jiff::Timestamp;
