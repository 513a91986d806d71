//! `cxi-agent load-modules`: has the host load the driver that it brings. It runs the host's own `modprobe` in the host's files,
//! so that the host's module directories, aliases and parameters (`/etc/modprobe.d`) count, and its own alone.

use std::{
    io,
    os::unix::fs::chroot,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use cxi_api::KernelModule;

use crate::modules::name;

/// Where hosts have it (kmod; the second where `/sbin` is no link to `/usr/sbin`).
const MODPROBE: [&str; 2] = ["/sbin/modprobe", "/usr/sbin/modprobe"];

/// Has the host load its CXI driver, with the host's own modprobe. Modules that are loaded stay as they are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory that holds the host's files
    #[arg(long, value_name = "DIRECTORY", default_value = "/host")]
    root: PathBuf,
    /// Module to load, with what it depends on; may be given several times
    #[arg(long = "module", value_name = "NAME", required = true, value_parser = name::parse)]
    modules: Vec<KernelModule>,
}

impl Args {
    /// Loads the modules.
    ///
    /// # Errors
    /// When the host's `modprobe` cannot be run, or fails.
    pub fn run(self) -> anyhow::Result<()> {
        Ok(load_modules(&self.root, &self.modules)?)
    }
}

/// Why the modules were not loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's files are not there, or may not be made the root.
    #[error("cannot make {} the root, which takes CAP_SYS_CHROOT: {source}", .root.display())]
    Root {
        /// What was to be the root.
        root: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The host has no `modprobe`.
    #[error("the host has neither {} nor {}", MODPROBE[0], MODPROBE[1])]
    NoModprobe,
    /// It could not be started.
    #[error("cannot start the host's {program}: {source}")]
    Start {
        /// The program.
        program: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// It failed; in its own words.
    #[error("modprobe {modules} ended with {status}: {words}")]
    Failed {
        /// What was to be loaded.
        modules: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
}

/// Loads the modules and what they depend on; those that are loaded stay as they are.
///
/// # Errors
/// When the host's `modprobe` cannot be run, or fails.
pub fn load_modules(root: &Path, modules: &[KernelModule]) -> Result<(), Error> {
    chroot(root)
        .and_then(|()| std::env::set_current_dir("/"))
        .map_err(|source| Error::Root { root: root.to_owned(), source })?;
    let program = MODPROBE.into_iter().find(|program| Path::new(program).is_file()).ok_or(Error::NoModprobe)?;
    run(program, modules)
}

fn run(program: &'static str, modules: &[KernelModule]) -> Result<(), Error> {
    let names: Vec<String> = modules.iter().map(ToString::to_string).collect();
    // --all: every argument is a module, none a parameter of the first.
    let output =
        Command::new(program).arg("--all").args(&names).output().map_err(|source| Error::Start { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed { modules: names.join(" "), status: output.status, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<KernelModule> {
        vec![KernelModule::CxiUser]
    }

    #[test]
    fn says_what_modprobe_says() {
        let error = run("/bin/false", &names()).unwrap_err().to_string();
        assert!(error.starts_with("modprobe cxi_user ended with exit status: 1"), "{error}");
        run("/bin/true", &names()).unwrap();
        let error = run("/nowhere/modprobe", &names()).unwrap_err().to_string();
        assert!(error.contains("cannot start the host's /nowhere/modprobe"), "{error}");
    }

    #[test]
    fn a_root_that_is_not_there_is_named() {
        let error = load_modules(Path::new("/nowhere"), &names()).unwrap_err().to_string();
        assert!(error.contains("cannot make /nowhere the root"), "{error}");
    }
}
