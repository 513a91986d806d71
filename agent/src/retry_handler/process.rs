//! The processes: started, signalled, waited for. Never killed.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use cxi_hardware::{NicName, PciAddress, retry_handler::Exit};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::retry_handler::output::{Output, Tail};

/// How long to wait for the rest of what an ended process said; a child of its own may still hold its output.
const REST_LIMIT: Duration = Duration::from_secs(1);

/// How a retry handler is started.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// `cxi_rh`.
    pub(super) path: PathBuf,
    /// Its configuration; its own default where there is none.
    pub(super) config: Option<PathBuf>,
}

/// A process.
pub(super) struct Process {
    pub(super) pid: u32,
    child: Child,
    tail: Tail,
    started: Instant,
}

/// How a process ended.
pub(super) struct End {
    pub(super) exit: Option<Exit>,
    pub(super) lived: Duration,
    pub(super) said: Vec<String>,
}

impl Program {
    /// Starts the retry handler of `device`. Its arguments are those of the vendor's unit file, its log goes to its
    /// output instead of the host's.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(&self, device: NicName, address: PciAddress, output: &Output) -> io::Result<Process> {
        let (writer, tail) = output.pipe(device, address)?;
        let mut command = Command::new(&self.path);
        command.arg(format!("--device={device}")).arg("--log-stdout");
        if let Some(config) = &self.config {
            let mut argument = std::ffi::OsString::from("--conf=");
            argument.push(config);
            command.arg(argument);
        }
        // A group of its own: what a terminal sends to us is not for them.
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0).kill_on_drop(false);
        // Ours, if anything.
        command.env_remove("NOTIFY_SOCKET");
        let child = command.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("it has no process id"))?;
        Ok(Process { pid, child, tail, started: Instant::now() })
    }
}

impl Process {
    /// Waits for its end, however long that takes.
    pub(super) async fn end(mut self) -> End {
        let exit = self.child.wait().await.ok().and_then(exit);
        let lived = self.started.elapsed();
        let _ = timeout(REST_LIMIT, self.tail.end()).await;
        End { exit, lived, said: self.tail.lines() }
    }
}

fn exit(status: ExitStatus) -> Option<Exit> {
    status.code().map(Exit::Code).or_else(|| status.signal().map(Exit::Signal))
}

/// Asks a retry handler to restore the NIC and end.
///
/// # Errors
/// When the signal cannot be sent.
pub(super) fn terminate(pid: u32) -> io::Result<()> {
    signal(pid, Signal::TERM)
}

/// Asks a retry handler to write its state to its log.
///
/// # Errors
/// When the signal cannot be sent.
pub(super) fn dump(pid: u32) -> io::Result<()> {
    signal(pid, Signal::HUP)
}

fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("not a process id"))?;
    Ok(kill_process(pid, signal)?)
}
