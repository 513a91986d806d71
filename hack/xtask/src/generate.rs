//! `cargo xtask gen`

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::steps::{Steps, built, cargo};

/// What to do when generated files differ.
pub const HINT: &str = "run `cargo xtask gen` and commit what changes";

/// Writes the generated files: everything that the operator is installed with
#[derive(Debug, Args)]
pub struct Arguments {
    /// Write nothing; fail if a file differs from what would be written
    #[arg(long, conflicts_with = "olm")]
    check: bool,
    /// Write a bundle for this version of the Operator Lifecycle Manager, and nothing else
    #[arg(long, value_enum)]
    olm: Option<Olm>,
    /// Directory of that bundle, which is emptied first; target/bundle if not given
    #[arg(long, value_name = "DIRECTORY", requires = "olm")]
    output: Option<PathBuf>,
    /// Version of that bundle; this release's if not given
    #[arg(long, value_name = "VERSION", requires = "olm")]
    bundle_version: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Olm {
    /// The one of `OperatorHub`, which brings KMM along as a dependency
    V0,
    /// The one that refuses bundles with dependencies
    V1,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::begin();
    if let Some(olm) = arguments.olm {
        let mut command = command(false);
        command.args(["--olm", if matches!(olm, Olm::V0) { "v0" } else { "v1" }]);
        if let Some(output) = &arguments.output {
            let output = std::path::absolute(output).context("cannot find the directory")?;
            command.arg("--output").arg(output);
        }
        command.args(arguments.bundle_version.iter().flat_map(|version| ["--bundle-version", version]));
        return steps.run("bundle", &mut command, "see the message above");
    }
    let (name, hint) =
        if arguments.check { ("generated files in step", HINT) } else { ("generate", "see the message above") };
    steps.run(name, &mut command(arguments.check), hint)?;
    steps.end();
    Ok(())
}

/// The check of what is generated, by the generator that was built with all targets.
pub fn check() -> Command {
    let mut command = built("examples/gen");
    command.arg("--check");
    command
}

/// The generator; it needs the API types, which would make xtask slow to build.
fn command(check: bool) -> Command {
    let mut command = cargo(&["run", "--quiet", "--package", "cxi-packaging", "--example", "gen", "--"]);
    command.args(check.then_some("--check"));
    command
}
