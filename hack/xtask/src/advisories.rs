//! Known vulnerabilities of dependencies, checked where the advisory database can be reached.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{deny, steps::Steps};

/// How long the database may take to arrive. It is a git repository of some megabytes.
const FETCH_WITHIN: Duration = Duration::from_mins(1);

/// Checks advisories, or says plainly that it could not.
pub fn check(steps: &mut Steps, cargo_deny: &Path) -> Result<()> {
    let mut fetch = deny::command(cargo_deny);
    fetch.args(["--log-level", "off", "fetch", "db"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !steps.call("advisory database", || succeeds_within(&mut fetch, FETCH_WITHIN))? {
        steps.note("advisories were not checked: the advisory database cannot be reached from here".to_owned());
        return Ok(());
    }
    let mut check = deny::command(cargo_deny);
    check.args(["check", "--disable-fetch", "advisories"]);
    steps.run("advisories", &mut check, "update the crate, or except the advisory in deny.toml with a reason")
}

/// Whether `command` ends well in time; it is killed if it does not end.
fn succeeds_within(command: &mut Command, limit: Duration) -> Result<bool> {
    let since = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn().context("cannot run cargo-deny")?;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for cargo-deny")? {
            return Ok(status.success());
        }
        if since.elapsed() > limit {
            child.kill().and_then(|()| child.wait()).context("cannot stop cargo-deny")?;
            return Ok(false);
        }
        sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn success_failure_and_silence_are_told_apart() {
        let second = Duration::from_secs(10);
        assert!(succeeds_within(&mut shell("exit 0"), second).unwrap());
        assert!(!succeeds_within(&mut shell("exit 1"), second).unwrap());
        assert!(!succeeds_within(&mut shell("exec sleep 60"), Duration::from_millis(50)).unwrap());
    }
}
