//! `cargo xtask demo`

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};
use clap::Args;
use cxi_control_plane::{Family, Toolbox};

use crate::{
    beside::ToolsBeside,
    packages::{self, Need},
    steps::{Steps, built, cargo},
    tools,
};

/// The packages that the demo runs programs of, as arguments for cargo.
const PROGRAMS: [&str; 4] = ["--package", "cxi-operator", "--package", "cxi-e2e"];

/// Shows a driver upgrade on a real control plane with simulated nodes
///
/// Builds what is missing, starts a control plane with KMM and the operator, installs a driver, starts jobs, asks
/// for a new version, and shows a live table until every node has moved. The exit status is 0 only if all nodes
/// were verified and no rule was broken.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to show: upgrade, failure for a node whose new driver does not load, or preflight for releases that are asked about
    /// before the upgrade
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Leave everything running at the end and print the kubeconfig
    #[arg(long)]
    keep: bool,
    /// How many nodes
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// Short delays instead of lifelike ones
    #[arg(long)]
    fast: bool,
}

impl Arguments {
    fn forward(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(scenario) = &self.scenario {
            words.extend(["--scenario".to_owned(), scenario.clone()]);
        }
        if let Some(nodes) = self.nodes {
            words.extend(["--nodes".to_owned(), nodes.to_string()]);
        }
        words.extend(self.keep.then(|| "--keep".to_owned()));
        words.extend(self.fast.then(|| "--fast".to_owned()));
        words
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::begin();
    packages::ensure(&mut steps, &[Need::Go], false)?;
    if !Toolbox::is_ready(Family::CONTROL_PLANE) {
        eprintln!(
            "The first time, this builds etcd, Kubernetes, KMM and the operator from source: about 7 minutes on two processors. \
             After that the demo starts at once."
        );
    }
    // Beside each other: the link of a large Go program leaves all processors but one idle.
    let tools_beside = ToolsBeside::start(Family::CONTROL_PLANE)?;
    // The development profile: it builds in half the time, and a demo waits for nodes, not for the operator.
    let build = [&["build", "--bins"], PROGRAMS.as_slice()].concat();
    steps.run("the operator and the demo", &mut cargo(&build), "see the compiler's message above")?;
    steps.call("etcd, Kubernetes and KMM", || tools::ensure(Family::CONTROL_PLANE))?;
    drop(tools_beside);
    // Not by `cargo run`: for one package alone its dependencies would be built again, with the features that it wants.
    let mut command = built("demo");
    // In place of this process, so that Ctrl-C and the exit status are the demo's own.
    Err(command.args(arguments.forward()).exec()).context("cannot start the demo")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn every_option_reaches_the_demo() {
        let words = ["--scenario", "failure", "--nodes", "12", "--keep", "--fast"];
        let line = Line::parse_from(["demo"].iter().chain(&words));
        assert_eq!(line.arguments.forward(), words);
        assert!(Line::parse_from(["demo"]).arguments.forward().is_empty());
    }
}
