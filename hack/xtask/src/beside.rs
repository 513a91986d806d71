//! Building the Go tools beside what cargo builds, which alone leaves a fifth of two processors idle.

use std::fs;

use anyhow::{Context, Result};
use cxi_control_plane::{Family, Process};

use crate::{steps::target, tools};

/// A second xtask that builds tools into the cache, until it is dropped.
///
/// No caller asks what came of it: a step that needs a tool ensures it, which waits for one that is being built and repeats what
/// failed, with its message.
#[derive(Debug)]
pub struct ToolsBeside(#[expect(dead_code, reason = "held for the process")] Process);

impl ToolsBeside {
    /// Starts with the first of `families`.
    pub fn start(families: &[Family]) -> Result<Self> {
        let this = std::env::current_exe().context("cannot find this program")?;
        let log = target().join("tools.log");
        fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        let names: Vec<String> = families.iter().filter_map(|family| tools::Name::of(*family)).collect();
        let process = Process::start("tools", &this, &log, |command| {
            command.arg("tools").args(names);
        });
        Ok(Self(process.context("cannot build tools beside the rest")?))
    }
}
