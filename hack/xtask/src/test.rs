//! `cargo xtask test`

use anyhow::Result;
use clap::Args;
use cxi_control_plane::Family;

use crate::{
    generate, lint,
    steps::{Steps, cargo},
    tools,
};

/// Proves that this checkout is good: the one command of CI
///
/// Formatting, clippy, dependencies, generated files in step, unit, property and model tests, and the scenarios on
/// a real control plane with the real KMM. Installs and builds what it needs into the cache. Stops at the first
/// step that fails.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Leave the scenarios out: seconds instead of minutes, and no proof of anything but the parts
    #[arg(long)]
    no_scenarios: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::begin();
    lint::source(&mut steps)?;
    lint::dependencies(&mut steps)?;
    steps.run("generated files in step", &mut generate::command(true), generate::HINT)?;
    steps.call("control plane tools", || tools::ensure(Family::CONTROL_PLANE))?;
    let hint = "see the failed test above";
    let unit = ["test", "--workspace", "--exclude", "cxi-e2e", "--locked"];
    steps.run("unit, property and model tests", &mut cargo(&unit), hint)?;
    if arguments.no_scenarios {
        steps.note("the scenarios were left out".to_owned());
    } else {
        let build = ["build", "--workspace", "--bins", "--locked"];
        steps.run("programs under test", &mut cargo(&build), "see the compiler's message above")?;
        let scenarios = ["test", "--package", "cxi-e2e", "--locked"];
        steps.run("scenarios on the real control plane", &mut cargo(&scenarios), hint)?;
    }
    steps.end();
    Ok(())
}
