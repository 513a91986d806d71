//! `cargo xtask test`

use std::{
    env, fs,
    path::{Path, absolute},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use cxi_control_plane::{Family, Progress, REQUEST_LOGS};

use crate::{
    beside::ToolsBeside,
    compile::{self, Suite},
    generate, images, lint,
    packages::{self, Need},
    rights,
    steps::{Steps, cargo},
    tools,
};

/// Proves that this checkout is good: the one command of CI
///
/// Formatting, clippy, dependencies, generated files in step, unit, property and model tests, the scenarios on a real
/// control plane with the real KMM, drivers on real kernels in QEMU, and whole nodes there. Some of them run containers, which
/// needs root.
/// On Debian and Ubuntu it installs the packages that are missing, and says which. Everything else is built into the cache. Stops at
/// the first step that fails.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Arguments {
    /// Leave the scenarios out: seconds instead of minutes, and no proof of anything but the parts
    #[arg(long, conflicts_with = "scenario")]
    no_scenarios: bool,
    /// Leave out what runs on real kernels in QEMU
    #[arg(long)]
    no_guests: bool,
    /// Fail where something would be skipped because this machine lacks what it takes; CI does
    #[arg(long, env = "CXI_NO_SKIPS")]
    no_skips: bool,
    /// Fail where a Debian package is missing, instead of installing it
    #[arg(long)]
    no_install: bool,
    /// Build what scenarios need and run only those whose names contain this, such as `upgrade::drain`
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Build what whole nodes in QEMU need and run only them: kubelets on real kernels in a cluster
    #[arg(long, conflicts_with_all = ["scenario", "no_scenarios", "no_guests"])]
    whole_nodes: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::begin();
    packages::ensure(&mut steps, &needs(arguments), arguments.no_install)?;
    if arguments.whole_nodes {
        only_whole_nodes(&mut steps, arguments.no_skips)?;
    } else if arguments.scenario.is_some() {
        scenarios(&mut steps, arguments.scenario.as_deref(), None)?;
    } else {
        everything(&mut steps, arguments)?;
    }
    steps.end();
    Ok(())
}

/// What the distribution has to bring. Asked for first: it is a pity to learn of it after minutes.
fn needs(arguments: &Arguments) -> Vec<Need> {
    let guests = !arguments.no_guests && arguments.scenario.is_none();
    let containers = !arguments.whole_nodes;
    let wanted = [(true, Need::Go), (containers, Need::Containers), (guests, Need::Guests)];
    wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, need)| need).collect()
}

fn everything(steps: &mut Steps, arguments: &Arguments) -> Result<()> {
    let mut wanted = [Family::CONTROL_PLANE, &[Family::Containerd], Family::PACKAGES].concat();
    if !arguments.no_guests {
        wanted.extend(Family::NODE);
    }
    // First all that compiles, with the tools beside it; then all that runs.
    let tools_beside = ToolsBeside::start(&wanted)?;
    lint::source(steps)?;
    lint::dependencies(steps)?;
    compile::everything(steps)?;
    steps.run("generated files in step", &mut generate::check(), generate::HINT)?;
    let operator = images::build_for_tests(steps)?.join("cxi-operator");
    if !arguments.no_scenarios {
        compile::faulty_operator(steps)?;
    }
    steps.call("control plane tools", || tools::ensure(Family::CONTROL_PLANE))?;
    steps.call("container runtime for the tests", || tools::ensure(&[Family::Containerd]))?;
    steps.call("what checks the packages", || tools::ensure(Family::PACKAGES))?;
    drop(tools_beside);
    steps.run("unit, property and model tests", &mut cargo(&["test", "--workspace", "--locked"]), FAILED)?;
    let mut have_guests = false;
    if arguments.no_guests {
        steps.note("what runs on real kernels was left out".to_owned());
    } else {
        have_guests = guests(steps, arguments.no_skips)?;
    }
    if arguments.no_scenarios {
        steps.note("what runs on a control plane was left out".to_owned());
        return Ok(());
    }
    scenarios(steps, None, Some(&operator))?;
    if have_guests {
        whole_nodes(steps)?;
    }
    Ok(())
}

fn only_whole_nodes(steps: &mut Steps, no_skips: bool) -> Result<()> {
    if let Some(why) = prepare_guests(steps, no_skips)? {
        steps.skip(WHOLE_NODES, &why);
        return Ok(());
    }
    steps.call("control plane tools", || tools::ensure(Family::CONTROL_PLANE))?;
    images::build_for_nodes(steps)?;
    compile::suite(steps, Suite::WholeNode)?;
    whole_nodes(steps)
}

/// Where scenarios look for the operator first (`e2e/src/operator.rs`).
const OPERATOR_BIN: &str = "CXI_OPERATOR_BIN";

const FAILED: &str = "see the failed test above";

const WHOLE_NODES: &str = "whole nodes in QEMU, in a cluster";

/// What guests need, or why this machine cannot have any, unless that counts as a failure.
fn prepare_guests(steps: &mut Steps, no_skips: bool) -> Result<Option<String>> {
    steps.call("kernels and drivers for guests", || match cxi_guest::prepare(&Progress::stderr()) {
        Err(cxi_guest::Error::Missing(why)) if !no_skips => Ok(Some(why)),
        outcome => outcome.map(|()| None).map_err(anyhow::Error::from),
    })
}

/// Drivers on real kernels; skipped, and whole nodes with them, where this machine cannot have any, unless that counts as
/// a failure. Returns whether it can.
fn guests(steps: &mut Steps, no_skips: bool) -> Result<bool> {
    const NAME: &str = "drivers on real kernels in QEMU";
    if let Some(why) = prepare_guests(steps, no_skips)? {
        steps.skip(NAME, &why);
        steps.skip(WHOLE_NODES, &why);
        return Ok(false);
    }
    steps.call("KMM's worker", || tools::ensure(&[Family::KmmWorker]))?;
    steps.run(NAME, Suite::Kernel.command().arg("--no-fail-fast"), FAILED)?;
    Ok(true)
}

/// Whole nodes, when guests, our images and the operator are there.
fn whole_nodes(steps: &mut Steps) -> Result<()> {
    steps.call("what makes a node", || tools::ensure(Family::NODE))?;
    // It says when it has done what: nothing else would for minutes.
    steps.run(WHOLE_NODES, Suite::WholeNode.command().args(["--", "--nocapture"]), FAILED)
}

/// What selects scenarios by name, for `cargo test`.
fn selection(name: &str) -> Result<Vec<String>> {
    let list = Suite::Scenarios.command().args(["--quiet", "--", "--list", name]).output()?;
    let found = String::from_utf8_lossy(&list.stdout).lines().any(|line| line.ends_with(": test"));
    ensure!(!list.status.success() || found, "no scenario has {name:?} in its name; look into e2e/tests/scenarios");
    // Those that a run of everything leaves out are run when they are asked for.
    Ok(["--", name, "--include-ignored"].map(str::to_owned).to_vec())
}

/// How many tests run at once, for `cargo test`.
const THREADS: &str = "RUST_TEST_THREADS";

/// What a control plane and the nodes on it take at most, in bytes.
const SCENARIO_MEMORY: u64 = 5 << 29;

/// How many scenarios run at once where the user has not said: most of a scenario's time is waiting, so more than there are
/// processors, but no more than there is memory for.
fn at_once() -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_memory(&text));
    (2 * processors).min(memory.map_or(processors, |bytes| bytes / SCENARIO_MEMORY)).max(1)
}

/// What `/proc/meminfo` says is left, in bytes.
fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Runs the scenarios; all of them with the operator of the image.
fn scenarios(steps: &mut Steps, name: Option<&str>, operator: Option<&Path>) -> Result<()> {
    if name.is_some() {
        steps.call("control plane tools", || tools::ensure(Family::CONTROL_PLANE))?;
        compile::suite(steps, Suite::Scenarios)?;
        compile::faulty_operator(steps)?;
    }
    if name.is_some_and(|name| name.contains("olm")) {
        steps.call("the Operator Lifecycle Manager", || tools::ensure(&[Family::OlmChecks, Family::Olm]))?;
    }
    let mut scenarios = Suite::Scenarios.command();
    scenarios.arg("--no-fail-fast");
    if env::var_os(THREADS).is_none() {
        scenarios.env(THREADS, at_once().to_string());
    }
    if let Some(name) = name {
        scenarios.args(selection(name)?);
        return steps.run("scenarios on the real control plane", &mut scenarios, FAILED);
    }
    if let Some(operator) = operator {
        scenarios.env(OPERATOR_BIN, absolute(operator).context("find the operator of the image")?);
    }
    let logs = rights::empty_logs()?;
    steps.run("scenarios on the real control plane", scenarios.env(REQUEST_LOGS, &logs), FAILED)?;
    rights::compare(steps, &logs)
}

#[cfg(test)]
mod tests {
    use super::available_memory;

    #[test]
    fn memory_that_is_left() {
        let text = "MemTotal:       24684144 kB\nMemAvailable:   1024 kB\nBuffers: 12 kB\n";
        assert_eq!(available_memory(text), Some(1 << 20));
        assert_eq!(available_memory("MemTotal:       24684144 kB\n"), None);
        assert_eq!(available_memory("MemAvailable:   many kB\n"), None);
    }
}
