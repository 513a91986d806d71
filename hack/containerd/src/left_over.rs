//! Nothing may be left of a containerd: no process, no mount.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends a containerd that keeps everything in `directory`, and what it has left.
pub fn clear(process: &mut Child, directory: &Path) {
    end(process);
    let since = Instant::now();
    while matches!(process.try_wait(), Ok(None)) && since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = process.kill();
    let _ = process.wait();
    let prefix = directory.display().to_string();
    for shim in processes_of(&prefix) {
        let _ = kill_process(shim, Signal::KILL);
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|place| place.starts_with(&prefix)) {
        let _ = Command::new("umount").args(["--lazy", place]).status();
    }
}

/// Shims that are left, by what they were started with: the socket of this containerd.
fn processes_of(directory: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&format!("{directory}/containerd.sock"))
    });
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)).collect()
}

/// Asks a child to end.
pub fn end(child: &Child) {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
}
