//! Which source the images are of.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::steps::root;

/// The commit.
#[derive(Debug)]
pub struct Source {
    /// Its hash; with `-dirty` if files differ from it.
    pub revision: String,
    /// Its time in seconds since 1970, which is also that of everything in the images.
    pub epoch: u64,
    /// The same, RFC 3339.
    pub time: String,
    dirty: bool,
}

impl Source {
    /// Asks git.
    pub fn read() -> Result<Self> {
        let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let hash = git(&["rev-parse", "HEAD"])?;
        let epoch = git(&["log", "-1", "--format=%ct"])?.parse().context("git told no time of the commit")?;
        let time = git(&["log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ"])?;
        let revision = if dirty { format!("{hash}-dirty") } else { hash };
        Ok(Self { revision, epoch, time, dirty })
    }

    /// What is to be said about it.
    pub fn warning(&self) -> Option<String> {
        let say = "files differ from the commit: the images say so in their revision, and are not to be published";
        self.dirty.then(|| say.to_owned())
    }
}

fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").args(arguments).current_dir(root()).env("TZ", "UTC").output();
    let output = output.context("cannot run git, which tells the commit that the images are of")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {} failed: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
