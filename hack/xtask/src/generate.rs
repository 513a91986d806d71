//! `cargo xtask gen`

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::steps::{Steps, cargo};

/// What to do when generated files differ.
pub const HINT: &str = "run `cargo xtask gen` and commit what changes";

/// Writes the generated files: CRDs and RBAC
#[derive(Debug, Args)]
pub struct Arguments {
    /// Write nothing; fail if a file differs from what would be written
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::begin();
    let (name, hint) =
        if arguments.check { ("generated files in step", HINT) } else { ("generate", "see the message above") };
    steps.run(name, &mut command(arguments.check), hint)?;
    steps.end();
    Ok(())
}

/// The generator; it needs the API types, which would make xtask slow to build.
pub fn command(check: bool) -> Command {
    let mut command = cargo(&["run", "--quiet", "--package", "cxi-operator", "--example", "gen", "--"]);
    command.args(check.then_some("--check"));
    command
}
