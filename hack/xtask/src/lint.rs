//! `cargo xtask lint`

use anyhow::Result;
use clap::Args;

use crate::{
    advisories, arrows,
    compile::Suite,
    deny,
    steps::{Steps, cargo},
    words,
};

/// Checks formatting, words, arrows between crates, clippy and dependencies
///
/// Dependencies are checked by cargo-deny, which is installed into the cache when missing.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Format, and apply clippy's suggestions, before checking
    #[arg(long)]
    fix: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::begin();
    if arguments.fix {
        let fix = ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"];
        steps.run("clippy --fix", &mut cargo(&fix), "see the compiler's message above")?;
        steps.run("format", &mut cargo(&["fmt", "--all"]), "see rustfmt's message above")?;
    }
    source(&mut steps)?;
    dependencies(&mut steps)?;
    steps.end();
    Ok(())
}

const HINT: &str = "`cargo xtask lint --fix` applies what clippy can do itself";

/// Formatting, words, arrows between crates, and clippy.
pub fn source(steps: &mut Steps) -> Result<()> {
    steps.run("formatting", &mut cargo(&["fmt", "--all", "--check"]), "run `cargo fmt --all`")?;
    words::check(steps)?;
    arrows::check(steps)?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
    steps.run("clippy", &mut cargo(&clippy), HINT)?;
    let mut suites = cargo(&["clippy", "--workspace", "--locked"]);
    suites.args(Suite::all()).args(["--", "--deny", "warnings"]);
    steps.run("clippy of the tests on a control plane and on real kernels", &mut suites, HINT)
}

/// Bans, licences, sources, and advisories where their database can be reached.
pub fn dependencies(steps: &mut Steps) -> Result<()> {
    let program = steps.call("cargo-deny", deny::ensure)?;
    let check = &mut deny::command(&program);
    check.args(["check", "bans", "licenses", "sources"]);
    steps.run("dependencies", check, "deny.toml says what is allowed and why")?;
    advisories::check(steps, &program)
}
