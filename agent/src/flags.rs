//! Flags that several tasks have: where the host's trees are, and times between two scans.

use std::{path::PathBuf, time::Duration};

use cxi_api::GoDuration;
use cxi_hardware::Root;

/// Shortest time between two scans of the node; with a shorter one the node would do little else.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

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

/// A duration of the form `1s` or `1500ms`.
///
/// # Errors
/// When it is none, or too short.
pub fn at_least_a_moment(text: &str) -> Result<Duration, String> {
    let GoDuration(duration) = text.parse().map_err(|error| format!("{error}"))?;
    if duration < SHORTEST_INTERVAL {
        Err(format!("must be at least {}", GoDuration(SHORTEST_INTERVAL)))
    } else {
        Ok(duration)
    }
}
