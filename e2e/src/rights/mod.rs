//! `cargo xtask rights`: what our accounts may do, what they did in scenarios, and whether these are the same.

mod granted;
mod used;
mod verdict;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cxi_control_plane::request_logs;

pub use used::PROBE;

use crate::rights::{granted::granted, used::Requests, verdict::Verdict};

/// Prints who may do what and why; with logs also what was done, and fails where the two differ
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// Directory with logs of requests, which control planes write if they are told to by the environment
    #[arg(long)]
    logs: Option<PathBuf>,
}

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Cluster,
    Namespace,
}

/// That an account may do one thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    account: String,
    scope: Scope,
    group: String,
    resource: String,
    verb: String,
}

impl Right {
    /// As RBAC names the resource.
    fn what(&self) -> String {
        if self.group.is_empty() { self.resource.clone() } else { format!("{}.{}", self.resource, self.group) }
    }
}

/// Prints, and compares if there are logs.
///
/// # Errors
/// If a log cannot be read, or rights and requests differ.
pub fn run(arguments: &Arguments) -> Result<()> {
    let granted = granted();
    let Some(directory) = &arguments.logs else {
        print!("{}", verdict::table(&granted, None));
        return Ok(());
    };
    let logs = request_logs(directory).with_context(|| format!("list logs in {}", directory.display()))?;
    ensure!(!logs.is_empty(), "{} has no logs: run scenarios with CXI_REQUEST_LOGS", directory.display());
    let mut requests = Requests::default();
    for log in &logs {
        requests.read(log)?;
    }
    print!("{}", verdict::table(&granted, Some(&requests)));
    let verdict = Verdict::of(&granted, &requests);
    print!("{verdict}");
    ensure!(verdict.good(), "rights and requests differ: see above; rights are in manifests/src/rights.rs");
    Ok(())
}
