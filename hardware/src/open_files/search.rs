//! The search through the open files of all processes.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::{OpenFile, OpenFilesError, device};
use crate::{
    AttributeErrorKind, NicName, Root, attribute, cgroup,
    device_number::{self, Kind, Number},
};

/// Longest command name: `TASK_COMM_LEN` of the kernel is 16, names of kernel threads may have 64.
const MAX_COMMAND_BYTES: usize = 64;

/// ESRCH, what a read in the directory of an ended process gives. The number is the same on every architecture of Linux.
const NO_SUCH_PROCESS: i32 = 3;

/// What was found so far.
pub(super) struct Search<'a> {
    proc: &'a Path,
    numbers: BTreeMap<Number, NicName>,
    pub(super) found: Vec<OpenFile>,
    /// Open files of devices, each as often as it is open. A file that processes share counts for each of them, so that
    /// fewer than the driver's references are certainly not all, and as many may not be all either.
    pub(super) descriptors: u32,
    /// Processes that show no file at all.
    without_files: Vec<u32>,
}

impl<'a> Search<'a> {
    /// One that has found nothing yet.
    pub(super) fn new(root: &'a Root) -> Result<Self, OpenFilesError> {
        let numbers = device_number::numbers(root).map_err(failed(root.dev()))?;
        Ok(Self { proc: root.proc(), numbers, found: Vec::new(), descriptors: 0, without_files: Vec::new() })
    }

    /// Looks at every process.
    pub(super) fn processes(&mut self) -> Result<(), OpenFilesError> {
        for entry in fs::read_dir(self.proc).map_err(failed(self.proc))? {
            let entry = entry.map_err(failed(self.proc))?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            self.process(pid, &entry.path())?;
        }
        Ok(())
    }

    fn process(&mut self, pid: u32, process: &Path) -> Result<(), OpenFilesError> {
        let Some(files) = self.files(&process.join("fd"))? else { return Ok(()) };
        if files.is_empty {
            self.without_files.push(pid);
        }
        self.add(pid, process, process, files.devices)
    }

    /// Looks at the threads of processes that showed no files.
    pub(super) fn threads(&mut self) -> Result<(), OpenFilesError> {
        for pid in std::mem::take(&mut self.without_files) {
            let process = self.proc.join(pid.to_string());
            let tasks = process.join("task");
            let Some(entries) = unless_gone(fs::read_dir(&tasks)).map_err(failed(&tasks))? else { continue };
            for entry in entries {
                let Some(entry) = unless_gone(entry).map_err(failed(&tasks))? else { continue };
                let Some(files) = self.files(&entry.path().join("fd"))? else { continue };
                if !files.devices.is_empty() {
                    // The others have the same files.
                    self.add(pid, &process, &entry.path(), files.devices)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Adds the devices that a process has open; `task` is where its control groups are read.
    fn add(&mut self, pid: u32, process: &Path, task: &Path, devices: Vec<NicName>) -> Result<(), OpenFilesError> {
        if devices.is_empty() {
            return Ok(());
        }
        let path = task.join("cgroup");
        let read = attribute::read_bytes(&path, cgroup::MAX_BYTES);
        let Some(cgroups) = unless_gone(read).map_err(failed(&path))? else { return Ok(()) };
        let pod_uid = cgroup::pod_uid(&String::from_utf8_lossy(&cgroups));
        let command = command(&process.join("comm"));
        let file = |device| OpenFile { pid, command: command.clone(), device, pod_uid: pod_uid.clone() };
        self.found.extend(devices.into_iter().map(file));
        Ok(())
    }

    /// What the files in `directory` are; `None` when their process is gone.
    fn files(&mut self, directory: &Path) -> Result<Option<Files>, OpenFilesError> {
        let Some(entries) = unless_gone(fs::read_dir(directory)).map_err(failed(directory))? else { return Ok(None) };
        let mut files = Files { devices: Vec::new(), is_empty: true };
        for entry in entries {
            let Some(entry) = unless_gone(entry).map_err(failed(directory))? else { continue };
            files.is_empty = false;
            let path = entry.path();
            let Some(target) = unless_gone(fs::read_link(&path)).map_err(failed(&path))? else { continue };
            if let Some(device) = self.recognise(&path, &target.to_string_lossy()) {
                self.descriptors = self.descriptors.saturating_add(1);
                if !files.devices.contains(&device) {
                    files.devices.push(device);
                }
            }
        }
        Ok(Some(files))
    }

    /// The device that the open file at `path` is, which is called `target`.
    fn recognise(&self, path: &Path, target: &str) -> Option<NicName> {
        let (named, in_dev) = (device(target), target.starts_with("/dev/"));
        if named.is_none() && !in_dev {
            return None;
        }
        match Kind::of(path) {
            Kind::Device(number) => self.numbers.get(&number).copied().or(named),
            Kind::Other => None,
            // Any user can have a file of that name elsewhere.
            Kind::Unknown => named.filter(|_| in_dev),
        }
    }
}

/// The open files of a process or a thread.
struct Files {
    /// Those that are devices, each once.
    devices: Vec<NicName>,
    is_empty: bool,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> OpenFilesError {
    let path = path.to_owned();
    move |source| OpenFilesError { path: path.clone(), source }
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
