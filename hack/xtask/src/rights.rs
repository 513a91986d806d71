//! `cargo xtask rights`

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::steps::{Steps, built, cargo, finish, target};

/// Prints who may do what in a cluster, and why
///
/// From the one table that all manifests are made of. With logs of requests it also shows how often each right was used,
/// and fails if one was not, or if something was refused. `cargo xtask test` does that for all scenarios together; its logs
/// stay in target/requests until the next run.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Compare with the requests of the last `cargo xtask test`
    #[arg(long)]
    used: bool,
    /// Compare with logs in this directory
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "used")]
    logs: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let logs = arguments.logs.clone().or_else(|| arguments.used.then(logs));
    let mut command = cargo(&["run", "--quiet", "--locked", "--package", "cxi-e2e", "--bin", "rights", "--"]);
    if let Some(logs) = logs {
        command.arg("--logs").arg(logs);
    }
    finish(&mut command)
}

/// Compares after scenarios have left logs.
pub fn compare(steps: &mut Steps, logs: &Path) -> Result<()> {
    let mut command = built("rights");
    steps.run("rights granted and used", command.arg("--logs").arg(logs), "the table is manifests/src/rights.rs")
}

/// Where scenarios leave their logs of requests.
pub fn logs() -> PathBuf {
    target().join("requests")
}

/// The same directory with nothing in it.
pub fn empty_logs() -> Result<PathBuf> {
    let logs = logs();
    if logs.exists() {
        fs::remove_dir_all(&logs).with_context(|| format!("cannot empty {}", logs.display()))?;
    }
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    logs.canonicalize().with_context(|| format!("cannot find {}", logs.display()))
}
