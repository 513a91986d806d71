//! `cargo xtask bench`

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use cxi_control_plane::Family;

use crate::{
    steps::{Steps, cargo, target},
    tools,
};

/// Optimised, see Cargo.toml.
const PROFILE: &str = "figures";

/// Measures, and prints a table
///
/// Runs an optimised build on a real control plane with simulated nodes. Figures hold for this machine and run only.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to measure
    #[arg(value_enum, default_value = "rollout")]
    what: What,
    /// Arguments for the benchmark itself, after --
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Writes and reads per node, time against the ideal, the operator's memory
    Rollout,
    /// Allocate and a scan of the device plugin, scrapes of the exporter: times and memory
    Node,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::begin();
    if matches!(arguments.what, What::Node) {
        return node(steps, &arguments.arguments);
    }
    steps.call("control plane tools", || tools::ensure(Family::CONTROL_PLANE))?;
    let build = ["build", "--package", "cxi-operator", "--package", "cxi-e2e", "--bins", "--profile", PROFILE];
    steps.run("optimised build", &mut cargo(&build), "see the compiler's message above")?;
    // Not by `cargo run`: for one package alone its dependencies would be built again, with the features that it wants.
    let mut command = Command::new(target().join(PROFILE).join("bench"));
    command.arg("rollout");
    Err(command.args(&arguments.arguments).exec()).context("cannot start the benchmark")
}

/// The benchmarks of the programs on a node, one after the other.
fn node(mut steps: Steps, arguments: &[String]) -> Result<()> {
    const EXAMPLES: [(&str, &str); 3] =
        [("cxi-device-plugin", "bench_allocate"), ("cxi-agent", "bench_exporter"), ("cxi-agent", "bench_agent")];
    for package in ["cxi-device-plugin", "cxi-agent"] {
        let build = ["build", "--profile", PROFILE, "--package", package, "--bins"];
        steps.run(package, &mut cargo(&build), "see the compiler's message above")?;
    }
    for (package, example) in EXAMPLES {
        let run = ["run", "--quiet", "--profile", PROFILE, "--package", package, "--example", example, "--"];
        steps.run(example, cargo(&run).args(arguments), "see the message above")?;
    }
    steps.end();
    Ok(())
}
