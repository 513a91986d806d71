//! Who has a CXI device open, from `/proc/<pid>/fd`.
//!
//! Devices are recognised by path, and under any other name in a `/dev` by device number. Files elsewhere are never
//! touched, only their names are read: asking a file of a network file system what it is can hang for ever. A process
//! that has a device under a name elsewhere, or mapped without an open file, still counts: it is in the reference count
//! of `cxi_user`, see [`crate::Stack::references_to_devices`].

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::{AttributeErrorKind, NicName, Root, attribute, cgroup};

/// Longest command name: `TASK_COMM_LEN` of the kernel is 16, names of kernel threads may have 64.
const MAX_COMMAND_BYTES: usize = 64;

/// ESRCH, what a read in the directory of an ended process gives. The number is the same on every architecture of Linux.
const NO_SUCH_PROCESS: i32 = 3;

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenFile {
    /// Process id, as the root's `/proc` counts.
    pub pid: u32,
    /// Its command name, empty when it could not be read. Whoever runs the process can choose it.
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

/// It cannot be told who has devices open. That is not "nobody".
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
    let proc = root.proc();
    let numbers = device_numbers(root).map_err(failed(root.dev()))?;
    let mut found = Vec::new();
    for entry in fs::read_dir(proc).map_err(failed(proc))? {
        let entry = entry.map_err(failed(proc))?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let process = entry.path();
        let devices = devices(&process.join("fd"), &numbers)?;
        if devices.is_empty() {
            continue;
        }
        let path = process.join("cgroup");
        let Some(cgroups) = unless_gone(attribute::read_bytes(&path, cgroup::MAX_BYTES)).map_err(failed(&path))? else {
            continue;
        };
        let pod_uid = cgroup::pod_uid(&String::from_utf8_lossy(&cgroups));
        let command = command(&process.join("comm"));
        let file = |device| OpenFile { pid, command: command.clone(), device, pod_uid: pod_uid.clone() };
        found.extend(devices.into_iter().map(file));
    }
    found.sort();
    Ok(found)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> OpenFilesError {
    let path = path.to_owned();
    move |source| OpenFilesError { path: path.clone(), source }
}

/// The devices that a process has open, each once.
fn devices(directory: &Path, numbers: &BTreeMap<u64, NicName>) -> Result<Vec<NicName>, OpenFilesError> {
    let mut devices = Vec::new();
    let Some(files) = unless_gone(fs::read_dir(directory)).map_err(failed(directory))? else { return Ok(devices) };
    for file in files {
        let Some(file) = unless_gone(file).map_err(failed(directory))? else { continue };
        let path = file.path();
        let Some(target) = unless_gone(fs::read_link(&path)).map_err(failed(&path))? else { continue };
        let target = target.to_string_lossy();
        let device = match device(&target) {
            None if target.contains("/dev/") && !numbers.is_empty() => {
                let Some(number) = unless_gone(number(&path)).map_err(failed(&path))? else { continue };
                number.and_then(|number| numbers.get(&number).copied())
            }
            device => device,
        };
        devices.extend(device.filter(|device| !devices.contains(device)));
    }
    Ok(devices)
}

/// The devices under the root's `/dev` by device number.
fn device_numbers(root: &Root) -> io::Result<BTreeMap<u64, NicName>> {
    let mut numbers = BTreeMap::new();
    for entry in fs::read_dir(root.dev())? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(number) = unless_gone(number(&entry.path()))?.flatten() {
            numbers.insert(number, name);
        }
    }
    Ok(numbers)
}

/// The device number of a character device.
fn number(path: &Path) -> io::Result<Option<u64>> {
    let metadata = fs::metadata(path)?;
    Ok(metadata.file_type().is_char_device().then(|| metadata.rdev()))
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_SUCH_PROCESS) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What a process calls itself, as one line of printable text.
fn command(path: &Path) -> String {
    let text = attribute::read_at_most(path, MAX_COMMAND_BYTES, |bytes| {
        Ok::<_, AttributeErrorKind>(String::from_utf8_lossy(bytes).trim().to_owned())
    });
    let printable = |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    text.unwrap_or_default().chars().map(printable).collect()
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
    use std::os::unix::fs::symlink;

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
