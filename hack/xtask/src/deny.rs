//! cargo-deny, installed into the cache when it is missing.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use cxi_control_plane::{Progress, cache};

use crate::steps::{cargo, finish, root};

/// The version that deny.toml is written for.
const VERSION: &str = "0.20.2";

/// The path of cargo-deny of the right version, which is installed if need be: about a minute on two cores.
pub fn ensure() -> Result<PathBuf> {
    let on_path = PathBuf::from("cargo-deny");
    if is_right(&on_path) {
        return Ok(on_path);
    }
    let place = cache::directory()?.join(format!("cargo-deny-{VERSION}"));
    let program = place.join("bin/cargo-deny");
    if is_right(&program) {
        return Ok(program);
    }
    let progress = Progress::stderr();
    let _lock = cache::Lock::acquire(&place, &progress)?;
    if is_right(&program) {
        return Ok(program);
    }
    let step = progress.step(&format!("installing cargo-deny {VERSION}"));
    // Without optimisation it needs a second more for the check and two minutes less for itself.
    let mut command = cargo(&["install", "--quiet", "--debug", "--locked", "--version", VERSION, "--root"]);
    // A build of its own, apart from the workspace's lints and target directory.
    command.arg(&place).arg("cargo-deny").current_dir(std::env::temp_dir()).env_remove("CARGO_TARGET_DIR");
    finish(&mut command).with_context(|| {
        format!("cannot install cargo-deny; try `cargo install cargo-deny --locked --version {VERSION}` yourself")
    })?;
    step.done();
    Ok(program)
}

/// cargo-deny in the root of the repository.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

fn is_right(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == format!("cargo-deny {VERSION}"))
}
