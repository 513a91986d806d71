//! The retry handler of a NIC: whether one is attached, what its supervisor says of it, and what it counts.
//!
//! `cxi_rh` is the half of the NIC's reliable transport that runs in user space; there is at most one per physical
//! function, no matter which program runs it. The driver tells that one is attached (`properties/pct_eq`). What it
//! counts is a file system that it serves itself, so reading there can hang for ever: [`StatisticsReader`].

mod expectation;
mod reader;
mod record;
mod statistics;

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

pub use expectation::Expectation;
pub use reader::{StatisticsError, StatisticsReader};
pub use record::{Exit, Record, State};
pub use statistics::{Kind, STATISTICS, Statistics, kind};

use crate::{AttributeError, Nic, NicName, Root, attribute, discovery, identity};

/// Where the retry handler of `device` serves its statistics: `rh_stats_dir` of its configuration is `/run/cxi` unless
/// the site changed it.
pub fn statistics_directory(root: &Root, device: NicName) -> PathBuf {
    root.run().join("cxi").join(device.to_string())
}

/// Where the supervisor keeps its [`Record`]s.
pub fn state_directory(root: &Root) -> PathBuf {
    root.run().join("cxi/retry-handler")
}

/// What the driver says about the retry handler of a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Differs each time the driver binds the NIC: the number of the class device's directory, which sysfs does not
    /// use again.
    pub instance: u64,
    /// Whether a retry handler is attached.
    pub attached: Result<bool, AttributeError>,
}

impl Attachment {
    /// Reads it for `nic`; `None` when that is gone by the end of reading.
    pub fn read(root: &Root, nic: &Nic) -> Option<Self> {
        let entry = root.class_directory().join(nic.name.to_string());
        let instance = fs::metadata(&entry).ok()?.ino();
        let attached = attribute::read(&entry.join("device/properties/pct_eq"), identity::retry_handler);
        discovery::is_still(&entry, nic.address).then_some(Self { instance, attached })
    }
}
