//! Flags that say where the host's trees are.

use std::path::PathBuf;

use cxi_hardware::Root;

/// Where a container has the host's trees.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeRoot {
    /// Where the host's /sys is.
    #[arg(long = "sysfs-root", env = "SYSFS_ROOT", default_value = "/sys", global = true, value_name = "DIR")]
    sys: PathBuf,

    /// Where the host's /dev is.
    #[arg(long = "devfs-root", env = "DEVFS_ROOT", default_value = "/dev", global = true, value_name = "DIR")]
    dev: PathBuf,

    /// Where the host's /proc is.
    #[arg(long = "procfs-root", env = "PROCFS_ROOT", default_value = "/proc", global = true, value_name = "DIR")]
    proc: PathBuf,

    /// Where the host's /run is; of it, only /run/cxi is used.
    #[arg(long = "run-root", env = "RUN_ROOT", default_value = "/run", global = true, value_name = "DIR")]
    run: PathBuf,
}

impl From<NodeRoot> for Root {
    fn from(flags: NodeRoot) -> Self {
        Self::new(flags.sys, flags.dev).with_proc(flags.proc).with_run(flags.run)
    }
}
