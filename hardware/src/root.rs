//! Where the trees of a node are found.

use std::path::{Path, PathBuf};

use crate::NicName;

/// The places a node is read from: directories that are its `/sys`, its `/dev`, its `/proc` and its `/run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    sys: PathBuf,
    dev: PathBuf,
    proc: PathBuf,
    run: PathBuf,
}

impl Root {
    /// Reads sysfs under `sys`, device nodes under `dev`, procfs under `/proc`, and what programs on the node tell
    /// each other under `/run`.
    pub fn new(sys: impl Into<PathBuf>, dev: impl Into<PathBuf>) -> Self {
        Self { sys: sys.into(), dev: dev.into(), proc: "/proc".into(), run: "/run".into() }
    }

    /// The same with procfs under `proc`.
    #[must_use]
    pub fn with_proc(self, proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), ..self }
    }

    /// The same with `/run` under `run`.
    #[must_use]
    pub fn with_run(self, run: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), ..self }
    }

    /// The directory read as `/sys`.
    pub fn sys(&self) -> &Path {
        &self.sys
    }

    /// The directory read as `/dev`.
    pub fn dev(&self) -> &Path {
        &self.dev
    }

    /// The directory read as `/proc`.
    pub fn proc(&self) -> &Path {
        &self.proc
    }

    /// The directory read as `/run`.
    pub fn run(&self) -> &Path {
        &self.run
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
    /// The running system's own `/sys`, `/dev`, `/proc` and `/run`.
    fn default() -> Self {
        Self::new("/sys", "/dev")
    }
}
