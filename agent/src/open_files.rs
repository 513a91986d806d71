//! Who has a CXI device open, from `/proc/<pid>/fd`.
//!
//! Devices are recognised by name. A process that has one under another name, or mapped without an open file, still
//! counts: it is in the reference count of `cxi_user`. Here the holder gets its name.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Process id, as the reader's `/proc` counts.
    pub pid: u32,
    /// Its command name, empty when it could not be read.
    pub command: String,
    /// The device.
    pub device: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}) has {} open", self.pid, self.command, self.device)
    }
}

/// It cannot be told who has devices open. That is not "nobody".
#[derive(Debug, thiserror::Error)]
#[error("look at the open files in {}", path.display())]
pub struct OpenFilesError {
    path: PathBuf,
    source: io::Error,
}

/// All holders, by process id. Processes that end while being looked at hold nothing.
///
/// # Errors
/// When a living process cannot be looked at.
pub fn holders(proc: &Path) -> Result<Vec<Holder>, OpenFilesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenFilesError { path, source }
    };
    let mut holders = Vec::new();
    for entry in fs::read_dir(proc).map_err(failed(proc))? {
        let entry = entry.map_err(failed(proc))?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let directory = entry.path().join("fd");
        let Some(files) = unless_gone(fs::read_dir(&directory)).map_err(failed(&directory))? else {
            continue;
        };
        for file in files {
            let Some(file) = unless_gone(file).map_err(failed(&directory))? else { continue };
            let Some(target) = unless_gone(fs::read_link(file.path())).map_err(failed(&file.path()))? else {
                continue;
            };
            if let Some(device) = device(&target.to_string_lossy()) {
                let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                holders.push(Holder { pid, command: command.trim().to_owned(), device });
            }
        }
    }
    holders.sort();
    holders.dedup();
    Ok(holders)
}

/// ESRCH is what a read in the directory of an ended process gives.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The device that an open file's target is, in whichever directory its process sees it; a node that was removed
/// meanwhile has a note behind its name.
fn device(target: &str) -> Option<String> {
    let path = target.strip_suffix(" (deleted)").unwrap_or(target);
    let (directory, name) = path.rsplit_once('/')?;
    let number = name.strip_prefix("cxi")?;
    let is_device = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_device && (directory == "/dev" || directory.ends_with("/dev"))).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn devices_are_recognised_by_name() {
        for (target, expected) in [
            ("/dev/cxi0", Some("/dev/cxi0")),
            ("/dev/cxi12 (deleted)", Some("/dev/cxi12")),
            ("/host/dev/cxi1", Some("/host/dev/cxi1")),
            ("/dev/cxi", None),
            ("/dev/cxi0x", None),
            ("/tmp/cxi0", None),
            ("/dev/null", None),
            ("socket:[1]", None),
            ("cxi0", None),
        ] {
            assert_eq!(device(target).as_deref(), expected, "{target}");
        }
    }

    fn process(proc: &Path, pid: u32, command: &str, targets: &[&str]) -> PathBuf {
        let directory = proc.join(pid.to_string());
        fs::create_dir_all(directory.join("fd")).unwrap();
        fs::write(directory.join("comm"), format!("{command}\n")).unwrap();
        for (target, number) in targets.iter().zip(0..) {
            symlink(target, directory.join(format!("fd/{number}"))).unwrap();
        }
        directory
    }

    #[test]
    fn every_holder_is_named_once() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), 20, "app", &["/dev/null", "/dev/cxi1", "/dev/cxi1", "/dev/cxi0"]);
        process(proc.path(), 3, "cxi_rh", &["/dev/cxi0"]);
        process(proc.path(), 4, "sh", &["/dev/pts/0"]);
        fs::create_dir(proc.path().join("sys")).unwrap();
        fs::create_dir(proc.path().join("5")).unwrap();
        let holders: Vec<_> = holders(proc.path()).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            holders,
            [
                "process 3 (cxi_rh) has /dev/cxi0 open",
                "process 20 (app) has /dev/cxi0 open",
                "process 20 (app) has /dev/cxi1 open",
            ]
        );
    }

    #[test]
    fn a_process_that_cannot_be_looked_at_is_an_error() {
        let proc = tempfile::tempdir().unwrap();
        let directory = process(proc.path(), 20, "app", &[]);
        fs::remove_dir(directory.join("fd")).unwrap();
        fs::write(directory.join("fd"), "").unwrap();
        assert!(holders(proc.path()).unwrap_err().to_string().ends_with("/20/fd"));
        assert!(holders(&proc.path().join("missing")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_target_is_a_device_or_not(target in "(.*/)?(dev/)?(cxi)?.*") {
            let _ = device(&target);
        }
    }
}
