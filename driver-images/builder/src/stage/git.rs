//! Source trees from git repositories.

use std::{path::Path, process::Command};

use super::{Fault, inside};
use crate::{
    buildah::said,
    error::{Attempt, Error, Result},
    source::Source,
    tree,
};

/// Brings one commit of a repository to `place`: `git:` with its name, and its date in seconds since 1970.
pub fn bring(source: &Source, url: &str, reference: &str, place: &Path) -> Result<(String, u64), Fault> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Location;
    use std::fs;

    /// A repository with a tag, and a second commit behind it.
    fn repository() -> (tempfile::TempDir, String) {
        let place = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(place.path()).args(["-c", "user.name=t", "-c", "user.email=t@example.com"]);
            let output = command.args(arguments).output().unwrap();
            assert!(output.status.success(), "git {arguments:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        git(&["init", "-q"]);
        fs::create_dir(place.path().join("src")).unwrap();
        fs::write(place.path().join("src/dkms.conf"), "one").unwrap();
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "one"]);
        git(&["tag", "release/1"]);
        let commit = git(&["rev-parse", "HEAD"]);
        fs::write(place.path().join("src/dkms.conf"), "two").unwrap();
        git(&["commit", "-q", "-a", "-m", "two"]);
        (place, commit.trim().to_owned())
    }

    fn source(url: &str, directory: Option<&str>) -> Source {
        let location = Location::Git { url: url.to_owned(), reference: String::new() };
        Source { name: None, location, sha256: None, directory: directory.map(str::to_owned) }
    }

    #[test]
    fn a_tag_is_brought_and_its_commit_told() {
        let (repository, commit) = repository();
        let url = repository.path().display().to_string();
        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("tree");
        let (digest, date) = bring(&source(&url, Some("src")), &url, "release/1", &to).unwrap();
        assert_eq!(digest, format!("git:{commit}"));
        assert!(date > 0);
        assert_eq!(fs::read_to_string(to.join("dkms.conf")).unwrap(), "one");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let (repository, _) = repository();
        let url = repository.path().display().to_string();
        let place = tempfile::tempdir().unwrap();
        let error =
            bring(&source(&url, None), &url, "release/2", &place.path().join("tree")).unwrap_err().error.to_string();
        assert!(error.starts_with(&format!("release/2 cannot be fetched from {url} (")), "{error}");
        let error = bring(&source(&url, Some("lib")), &url, "release/1", &place.path().join("tree")).unwrap_err().error;
        assert!(error.to_string().contains("has no directory lib"), "{error}");
    }
}
