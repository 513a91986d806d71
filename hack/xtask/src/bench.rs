//! `cargo xtask bench`

use std::{env, os::unix::process::CommandExt, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use cxi_control_plane::Family;

use crate::{
    images,
    steps::{Steps, cargo, target},
    tools,
};

/// Optimised, see Cargo.toml.
const PROFILE: &str = "figures";

/// Measures, and prints a table
///
/// Runs an optimised build on a real control plane with simulated nodes, the programs as images have them on a node that is
/// a tree of files, or the engine alone on clusters that exist in memory only. Figures hold for this machine and run only.
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
    /// Programs of a node: Allocate, scrapes, start, memory, CPU; fails where a goal is missed
    Node,
    /// A plan on 1,000, 5,000 and 10,000 nodes; fails where its time grows faster than the cluster or the goal is missed
    Plan,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::begin();
    match arguments.what {
        What::Rollout => {}
        What::Node => return node(steps, &arguments.arguments),
        What::Plan => {
            let run = ["run", "--quiet", "--profile", PROFILE, "--package", "cxi-rollout", "--example", "bench_plan"];
            steps.run("bench_plan", &mut cargo(&run), "see the messages above")?;
            steps.end();
            return Ok(());
        }
    }
    steps.call("control plane tools", || tools::ensure(Family::CONTROL_PLANE))?;
    let build = ["build", "--package", "cxi-operator", "--package", "cxi-e2e", "--bins", "--profile", PROFILE];
    steps.run("optimised build", &mut cargo(&build), "see the compiler's message above")?;
    // Not by `cargo run`: for one package alone its dependencies would be built again, with the features that it wants.
    let mut command = Command::new(target().join(PROFILE).join("bench"));
    command.arg("rollout");
    Err(command.args(&arguments.arguments).exec()).context("cannot start the benchmark")
}

/// What a node's programs are measured with, and where they come from unless they are built.
const NODE: [(&str, &str); 2] = [("cxi-device-plugin", "bench_allocate"), ("cxi-agent", "bench_agent")];
const PROGRAMS: &str = "CXI_BENCH_PROGRAMS";

/// The benchmarks of the programs on a node, one after the other. They measure what is published; only what measures is built
/// by another profile. A goal that is missed keeps none of the others from being measured.
fn node(mut steps: Steps, arguments: &[String]) -> Result<()> {
    let programs = match env::var_os(PROGRAMS) {
        Some(directory) => PathBuf::from(directory),
        None => images::build_programs_of_nodes(&mut steps)?,
    };
    let programs = std::path::absolute(&programs).context("find the programs")?;
    let mut missed = Vec::new();
    for (package, example) in NODE {
        let run = ["run", "--quiet", "--profile", PROFILE, "--package", package, "--example", example, "--"];
        let mut run = cargo(&run);
        run.args(arguments).env(PROGRAMS, &programs);
        missed.extend(steps.run(example, &mut run, "see the messages above").err());
    }
    steps.end();
    missed.into_iter().next().map_or(Ok(()), Err)
}
