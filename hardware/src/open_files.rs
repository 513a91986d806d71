//! Who has a CXI device open, from `/proc/<pid>/fd`.
//!
//! Devices are recognised by device number: what has a device's name in any `/dev`, and everything in `/dev` itself.
//! Where the number is not known, a name in `/dev` itself counts. Files elsewhere are never touched, only their names
//! are read: asking a file system whose server hangs can hang for ever, and not every one knows how to answer from
//! memory. A process that has a device under a name elsewhere, or mapped without an open file, still counts: it is in
//! the reference count of `cxi_user`, see [`crate::Stack::references_to_devices`].

mod search;

use std::{fmt, io, path::PathBuf};

use search::Search;

use crate::{NicName, Root};

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenFile {
    /// Process id, as the root's `/proc` counts.
    pub pid: u32,
    /// Its command name, empty when it could not be read. The user who runs the process can choose it.
    pub command: String,
    /// The device.
    pub device: NicName,
    /// UID of the pod it belongs to, `None` for a process outside Kubernetes.
    pub pod_uid: Option<String>,
}

impl fmt::Display for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}) has /dev/{} open", self.pid, self.command, self.device)
    }
}

/// It cannot be told who has devices open. That does not mean that the devices are free.
#[derive(Debug, thiserror::Error)]
#[error("look at the open files in {}", path.display())]
pub struct OpenFilesError {
    /// What could not be read.
    pub path: PathBuf,
    source: io::Error,
}

/// All open files of CXI devices, by process id; a process has a device at most once. Processes that end while being
/// looked at hold nothing.
///
/// # Errors
/// When a living process cannot be looked at.
pub fn open_files(root: &Root) -> Result<Vec<OpenFile>, OpenFilesError> {
    open_files_behind(root, 0)
}

/// The same, where the driver counts `references` to its devices. When fewer are found, threads are looked at as well: a
/// process whose first thread has ended shows no files, and its other threads do.
///
/// # Errors
/// When a living process cannot be looked at.
pub fn open_files_behind(root: &Root, references: u32) -> Result<Vec<OpenFile>, OpenFilesError> {
    let mut search = Search::new(root)?;
    search.processes()?;
    if search.descriptors < references {
        search.threads()?;
    }
    search.found.sort();
    Ok(search.found)
}

/// The device that an open file's target is, in whichever directory its process sees it; a node that was removed
/// meanwhile has a note behind its name.
fn device(target: &str) -> Option<NicName> {
    let path = target.strip_suffix(" (deleted)").unwrap_or(target);
    let (directory, name) = path.rsplit_once('/')?;
    (directory == "/dev" || directory.ends_with("/dev")).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn devices_are_recognised_by_name() {
        for (target, expected) in [
            ("/dev/cxi0", Some("cxi0")),
            ("/dev/cxi12 (deleted)", Some("cxi12")),
            ("/host/dev/cxi1", Some("cxi1")),
            ("/dev/cxi", None),
            ("/dev/cxi0x", None),
            ("/tmp/cxi0", None),
            ("/dev/null", None),
            ("socket:[1]", None),
            ("cxi0", None),
        ] {
            assert_eq!(device(target).map(|name| name.to_string()).as_deref(), expected, "{target}");
        }
    }

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for directory in ["proc/sys", "dev"] {
                fs::create_dir_all(tree.0.path().join(directory)).unwrap();
            }
            tree
        }

        fn root(&self) -> Root {
            Root::new(self.0.path().join("sys"), self.0.path().join("dev")).with_proc(self.0.path().join("proc"))
        }

        fn process(&self, pid: u32, command: &str, cgroup: &str, targets: &[&str]) -> PathBuf {
            let directory = self.root().proc().join(pid.to_string());
            fs::create_dir_all(directory.join("fd")).unwrap();
            fs::write(directory.join("comm"), format!("{command}\n")).unwrap();
            fs::write(directory.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
            for (target, number) in targets.iter().zip(0..) {
                symlink(target, directory.join(format!("fd/{number}"))).unwrap();
            }
            directory
        }

        fn found(&self) -> Vec<String> {
            let with_pod = |file: &OpenFile| format!("{file}, pod {:?}", file.pod_uid.as_deref().unwrap_or_default());
            open_files(&self.root()).unwrap().iter().map(with_pod).collect()
        }
    }

    #[test]
    fn every_holder_is_named_once_with_its_pod() {
        let tree = Tree::new();
        let pod = "/kubepods/pod0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c/ab";
        tree.process(20, "app", pod, &["/dev/null", "/dev/cxi1", "/dev/cxi1", "/dev/cxi0"]);
        tree.process(3, "cxi_rh", "/system.slice/cxi_rh.service", &["/dev/cxi0"]);
        tree.process(4, "sh", "/", &["/dev/pts/0"]);
        fs::create_dir(tree.root().proc().join("5")).unwrap();
        assert_eq!(
            tree.found(),
            [
                "process 3 (cxi_rh) has /dev/cxi0 open, pod \"\"",
                "process 20 (app) has /dev/cxi0 open, pod \"0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c\"",
                "process 20 (app) has /dev/cxi1 open, pod \"0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c\"",
            ]
        );
    }

    #[test]
    fn a_device_under_another_name_is_recognised_by_its_number() {
        let tree = Tree::new();
        // Following the links, these are the device null.
        symlink("/dev/null", tree.root().dev().join("cxi7")).unwrap();
        tree.process(20, "app", "/", &["/dev/zero", "/dev/../dev/null"]);
        assert_eq!(tree.found(), ["process 20 (app) has /dev/cxi7 open, pod \"\""]);
    }

    #[test]
    fn a_file_that_is_no_device_is_none_whatever_its_name() {
        let tree = Tree::new();
        let file = tree.0.path().join("home/dev/cxi0");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        tree.process(20, "app", "/", &[file.to_str().unwrap()]);
        assert!(tree.found().is_empty());
    }

    #[test]
    fn a_file_that_does_not_tell_its_number_is_no_device_and_hides_none() {
        let tree = Tree::new();
        symlink("/dev/null", tree.root().dev().join("cxi7")).unwrap();
        let elsewhere = tree.0.path().join("file");
        fs::write(&elsewhere, "").unwrap();
        // Asking what these are fails, as it does where a file system in user space serves its owner alone.
        let [elsewhere, named] = ["x", "cxi1"].map(|name| format!("{}/dev/{name}", elsewhere.display()));
        assert_ne!(fs::metadata(&elsewhere).unwrap_err().kind(), io::ErrorKind::NotFound);
        tree.process(20, "app", "/", &["/dev/null/x", &elsewhere, &named, "/dev/null"]);
        assert_eq!(tree.found(), ["process 20 (app) has /dev/cxi7 open, pod \"\""]);
    }

    #[test]
    fn threads_of_a_process_without_files_are_looked_at_when_a_user_is_missing() {
        let tree = Tree::new();
        let pod = "/kubepods/pod0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c/ab";
        let process = tree.process(20, "app", "/", &[]);
        for thread in [20, 21, 22] {
            let files = process.join(format!("task/{thread}/fd"));
            fs::create_dir_all(&files).unwrap();
            // The first thread has ended, and is in no control group any more.
            fs::write(process.join(format!("task/{thread}/cgroup")), format!("0::{pod}\n")).unwrap();
            if thread != 20 {
                symlink("/dev/cxi1", files.join("3")).unwrap();
            }
        }
        tree.process(30, "other", "/", &["/dev/cxi0", "/dev/cxi0"]);
        let found = |references| {
            let files = open_files_behind(&tree.root(), references).unwrap();
            files.into_iter().map(|file| (file.pid, file.pod_uid.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(found(2), [(30, false)], "each of them is known");
        assert_eq!(found(3), [(20, true), (30, false)]);
        fs::remove_dir_all(process.join("task/21/fd")).unwrap();
        fs::write(process.join("task/21/fd"), "").unwrap();
        assert!(open_files_behind(&tree.root(), 3).unwrap_err().to_string().ends_with("task/21/fd"));
        fs::remove_dir_all(process.join("task")).unwrap();
        assert_eq!(found(3), [(30, false)], "it has ended");
    }

    #[test]
    fn a_process_that_ends_while_being_looked_at_holds_nothing() {
        let tree = Tree::new();
        let directory = tree.process(20, "app", "/", &["/dev/cxi0"]);
        fs::remove_file(directory.join("cgroup")).unwrap();
        assert!(tree.found().is_empty());
    }

    #[test]
    fn a_command_is_one_line() {
        let tree = Tree::new();
        let directory = tree.process(20, "a\x1b[31m\nb", "/", &["/dev/cxi0"]);
        assert_eq!(tree.found(), ["process 20 (a\u{fffd}[31m\u{fffd}b) has /dev/cxi0 open, pod \"\""]);
        fs::write(directory.join("comm"), vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(tree.found(), ["process 20 () has /dev/cxi0 open, pod \"\""]);
    }

    #[test]
    fn a_process_that_cannot_be_looked_at_is_an_error() {
        let tree = Tree::new();
        let directory = tree.process(20, "app", "/", &[]);
        fs::remove_dir(directory.join("fd")).unwrap();
        fs::write(directory.join("fd"), "").unwrap();
        assert!(open_files(&tree.root()).unwrap_err().to_string().ends_with("/20/fd"));
        assert!(open_files(&tree.root().with_proc("/missing")).is_err());
        assert!(open_files(&Root::new("/sys", "/missing").with_proc(tree.root().proc())).is_err());
    }

    #[test]
    fn any_input_is_a_device_by_its_name_or_none() {
        cxi_any_input::text(&["/dev/cxi0", "/dev/cxi12 (deleted)", "/host/dev/cxi1"], &|target| {
            let device = device(target);
            if let Some(device) = device {
                let end = format!("/dev/{device}");
                assert!(
                    target.strip_suffix(" (deleted)").unwrap_or(target).ends_with(&end),
                    "{target:?} is not {device}"
                );
            }
            device.is_some().into()
        });
    }
}
