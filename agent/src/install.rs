//! `cxi-agent install`: puts this program where a container of another image finds it.
//!
//! The retry handler comes with an image of the administrator's, in which this program is not; an init container of ours
//! puts it into a volume that both share.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::Context as _;

/// Copy this program.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to, a file in a directory that exists.
    file: PathBuf,
}

impl Args {
    /// Copies, in one step.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn run(self) -> anyhow::Result<()> {
        let new = self.file.with_extension("new");
        let copy = || {
            fs::copy("/proc/self/exe", &new)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
            fs::rename(&new, &self.file)
        };
        copy().with_context(|| format!("copy this program to {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_whole_and_may_be_run() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cxi-agent");
        for _ in 0..2 {
            Args { file: file.clone() }.run().unwrap();
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::metadata(&file).unwrap().len(), fs::metadata("/proc/self/exe").unwrap().len());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = Args { file: "/nowhere/cxi-agent".into() }.run().unwrap_err();
        assert_eq!(error.to_string(), "copy this program to /nowhere/cxi-agent");
    }
}
