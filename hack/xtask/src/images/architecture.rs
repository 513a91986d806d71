//! What images are built for.

use std::{env, path::Path, process::Command};

use anyhow::{Result, bail};
use clap::ValueEnum;

/// An architecture of nodes, as the Open Container Initiative names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// `x86_64`
    Amd64,
    /// `aarch64`
    Arm64,
}

impl Default for Architecture {
    /// That of this machine.
    fn default() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 }
    }
}

impl Architecture {
    /// Its name in images.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Its name for Rust.
    pub fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The C compiler and linker where it is not that of this machine, and the Debian packages that bring it.
    fn cross(self) -> Option<(&'static str, &'static str)> {
        (self != Self::default()).then_some(match self {
            Self::Amd64 => ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu libc6-dev-amd64-cross"),
            Self::Arm64 => ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
        })
    }

    /// Tells cargo and build scripts which C compiler and linker to use.
    pub fn configure(self, command: &mut Command) {
        if let Some((compiler, _)) = self.cross() {
            let target = self.target().replace('-', "_");
            command.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()), compiler);
            command.env(format!("CC_{target}"), compiler);
        }
    }

    /// Fails, saying what to install, where programs for it cannot be built.
    pub fn check(self) -> Result<()> {
        let target = self.target();
        let printed = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output()?;
        let directory = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
        if !Path::new(&directory).is_dir() {
            bail!("the standard library of Rust for {target} is missing: rustup target add {target}");
        }
        if let Some((compiler, packages)) = self.cross() {
            let path = env::var("PATH").unwrap_or_default();
            if !path.split(':').any(|directory| Path::new(directory).join(compiler).is_file()) {
                bail!("{compiler} is missing: apt-get install {packages}, or build on a machine of that architecture");
            }
        }
        Ok(())
    }
}
