//! Source trees from git repositories.

use std::{path::Path, process::Command};

use super::inside;
use crate::{
    buildah::said,
    error::{Attempt, Error, Result},
    source::Source,
    tree,
};

/// Brings one commit of a repository to `place`: `git:` with its name, and its date in seconds since 1970.
pub fn bring(source: &Source, url: &str, reference: &str, place: &Path) -> Result<(String, u64)> {
    let directory = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        // It must not ask for an account on a terminal.
        command.env("GIT_TERMINAL_PROMPT", "0").arg("-C").arg(directory.path());
        said(command.args(arguments), "git", "git")
    };
    git(&["init", "--quiet"])?;
    git(&["fetch", "--quiet", "--depth", "1", url, reference]).map_err(|error| match error {
        Error::Program { said, .. } => Error::Input(format!(
            "{reference} cannot be fetched from {url} ({said}): check the URL, the reference and your account there"
        )),
        other => other,
    })?;
    git(&["checkout", "--quiet", "FETCH_HEAD"])?;
    let commit = git(&["rev-parse", "FETCH_HEAD"])?;
    let date = git(&["log", "-1", "--format=%ct", "FETCH_HEAD"])?;
    tree::copy(&inside(source, directory.path())?, place)?;
    Ok((format!("git:{}", commit.trim()), date.trim().parse().unwrap_or_default()))
}
