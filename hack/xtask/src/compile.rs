//! What tests are built with: always for the whole workspace, because for a part of it cargo would build what the parts share
//! again, with the features that only this part wants.

use std::process::Command;

use anyhow::Result;

use crate::steps::{Steps, cargo};

const HINT: &str = "see the compiler's message above";

/// Tests that `cargo test` alone leaves out, because they need what `cargo xtask test` prepares.
#[derive(Debug, Clone, Copy)]
pub enum Suite {
    /// Drivers on real kernels (`hack/guest/tests/kernel`).
    Kernel,
    /// Soft nodes on a real control plane (`e2e/tests/scenarios`).
    Scenarios,
    /// Nodes in QEMU on a real control plane (`e2e/tests/whole_node`).
    WholeNode,
}

impl Suite {
    const ALL: [Self; 3] = [Self::Kernel, Self::Scenarios, Self::WholeNode];

    /// Arguments that choose all of them: by name, because they are not among all targets.
    pub fn all() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().flat_map(|suite| ["--test", suite.name()])
    }

    /// The name of the test target.
    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Scenarios => "scenarios",
            Self::WholeNode => "whole_node",
        }
    }

    /// Runs it; arguments may follow.
    pub fn command(self) -> Command {
        cargo(&["test", "--workspace", "--locked", "--test", self.name()])
    }
}

/// All programs and tests.
pub fn everything(steps: &mut Steps) -> Result<()> {
    let mut suites = cargo(&["build", "--workspace", "--locked"]);
    suites.args(Suite::all());
    steps.run("programs and tests", &mut cargo(&["build", "--workspace", "--all-targets", "--locked"]), HINT)?;
    steps.run("tests on a control plane and on real kernels", &mut suites, HINT)
}

/// One suite and the programs that it runs.
pub fn suite(steps: &mut Steps, suite: Suite) -> Result<()> {
    let build = ["build", "--workspace", "--locked", "--bins", "--test", suite.name()];
    steps.run("programs under test", &mut cargo(&build), HINT)
}

/// The operator that dies at the write that it is told to.
pub fn faulty_operator(steps: &mut Steps) -> Result<()> {
    let build =
        ["build", "--package", "cxi-operator", "--features", "faults", "--bin", "cxi-operator-faults", "--locked"];
    steps.run("the operator that dies at a write", &mut cargo(&build), HINT)
}
