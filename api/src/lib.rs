//! `api` says what is written down, and never does anything about it: no I/O, no clock, no other crate of this repository.
//!
//! The API of the CXI operator: what administrators write, what the operator and its node agents report, and the part of
//! KMM's API that the operator uses. What has a version is in a folder of its own ([`v1`]); names that other
//! programs match by string are in [`names`].

#[cfg(test)]
mod as_installed;
pub mod crds;
pub mod duration;
pub mod images;
pub mod kmm;
pub mod lenient;
pub mod modules;
pub mod names;
pub mod v1;

pub use duration::GoDuration;
pub use modules::KernelModule;
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
    preflight::{self, CXIPreflight, CXIPreflightStatus},
    revision::{self, RevisionId},
    source, strategy,
    transaction::{self, Transaction, Why},
    validation::{self, Validation},
};

/// An instant, written as RFC 3339 in UTC with as many fractional digits as it has (so it survives a round trip exactly).
pub type Timestamp = jiff::Timestamp;
