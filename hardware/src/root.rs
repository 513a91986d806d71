//! Where the trees of a node are found.

use std::path::{Path, PathBuf};

use crate::NicName;

/// The places a node is read from: one directory that is its `/sys` and one that is its `/dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    sys: PathBuf,
    dev: PathBuf,
}

impl Root {
    /// Reads sysfs under `sys` and device nodes under `dev`.
    pub fn new(sys: impl Into<PathBuf>, dev: impl Into<PathBuf>) -> Self {
        Self { sys: sys.into(), dev: dev.into() }
    }

    /// The directory read as `/sys`.
    pub fn sys(&self) -> &Path {
        &self.sys
    }

    /// The directory read as `/dev`.
    pub fn dev(&self) -> &Path {
        &self.dev
    }

    /// The class directory of the driver; it exists while `cxi_ss1` is loaded.
    pub fn class_directory(&self) -> PathBuf {
        self.sys.join("class/cxi")
    }

    /// Where this root has the character device of a NIC. Inside a container that mounts the host's `/dev` elsewhere
    /// this is not the path on the host.
    pub fn device_node(&self, name: NicName) -> PathBuf {
        self.dev.join(name.to_string())
    }
}

impl Default for Root {
    /// The running system's own `/sys` and `/dev`.
    fn default() -> Self {
        Self::new("/sys", "/dev")
    }
}
