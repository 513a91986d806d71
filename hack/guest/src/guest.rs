//! A running guest, and talking to it.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cxi_control_plane::Process;
use tempfile::TempDir;

use crate::{
    error::{Attempt, Error, Result},
    kernel::Kernel,
    machine::{Machine, qemu},
    program,
};

/// How long a guest may take to boot: 3 to 6 s alone, minutes beside many others.
const BOOT: Duration = Duration::from_mins(10);
/// How long a script may take: seconds, unless the machine is very busy.
const ANSWER: Duration = Duration::from_mins(10);
const POLL: Duration = Duration::from_millis(20);

/// A guest. It ends when this is dropped or when this process dies in whatever way.
#[derive(Debug)]
pub struct Guest {
    // Before the directory that it writes to.
    process: Process,
    control: UnixStream,
    /// What came on the control port and is no whole line yet.
    received: Vec<u8>,
    number: u64,
    directory: TempDir,
}

/// What a script in a guest did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Both, one after the other.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Guest {
    /// Boots `machine` and waits until it answers.
    ///
    /// # Errors
    /// When QEMU is missing or ends, or the guest does not answer within ten minutes.
    pub fn boot(machine: &Machine, kernel: &Kernel, initrd: &Path) -> Result<Self> {
        let directory = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
        let socket = directory.path().join("control");
        let console = format!("file:{}", directory.path().join("console").display());
        let control = format!("unix:{},server=on,wait=off", socket.display());
        let mut process = Process::start("qemu", &qemu()?, &directory.path().join("qemu.log"), |command| {
            command.args(machine.arguments(kernel, initrd)).args(["-serial", &console, "-serial", &control]);
        })?;
        let began = Instant::now();
        let control = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(_) if began.elapsed() < BOOT => process.check()?,
                Err(source) => return Err(Error::Io { attempt: "connect to QEMU".to_owned(), source }),
            }
            sleep(POLL);
        };
        control.set_read_timeout(Some(POLL)).attempt(|| "set a time limit".to_owned())?;
        let mut guest = Self { process, control, received: Vec::new(), number: 0, directory };
        guest.wait_until_ready()?;
        Ok(guest)
    }

    /// Waits until the guest answers: after it was booted, or has rebooted.
    ///
    /// # Errors
    /// When it does not within ten minutes.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        self.line("answer after it was booted", BOOT, |line| (line == "@ready").then_some(()))
    }

    /// Runs a shell script as root and returns how it ended.
    ///
    /// # Errors
    /// When the guest does not answer within ten minutes.
    pub fn run(&mut self, script: &str) -> Result<Output> {
        self.number += 1;
        let line = format!("{} {}\n", self.number, BASE64_STANDARD.encode(script));
        self.control.write_all(line.as_bytes()).attempt(|| "write to the guest".to_owned())?;
        let start = format!("@{} ", self.number);
        let first = script.trim().lines().next().unwrap_or_default();
        self.line(&format!("end `{first}`"), ANSWER, |line| answer(line.strip_prefix(&start)?))
    }

    /// Runs a shell script that must succeed and returns its standard output without the last end of line.
    ///
    /// # Errors
    /// When it fails or the guest does not answer.
    pub fn succeed(&mut self, script: &str) -> Result<String> {
        let output = self.run(script)?;
        if output.status == 0 {
            return Ok(output.stdout.trim_end_matches('\n').to_owned());
        }
        Err(Error::Script { script: script.to_owned(), status: output.status, output: output.text() })
    }

    /// Starts a shell script that goes on by itself, and returns its process id.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, script: &str) -> Result<u32> {
        let encoded = BASE64_STANDARD.encode(script);
        let pid = self.succeed(&format!(
            "f=$(mktemp); echo {encoded} | base64 -d >$f; setsid sh $f >$f.log 2>&1 </dev/null & echo $!"
        ))?;
        pid.parse().map_err(|_| Error::Unexpected { what: "a process id".to_owned(), why: format!("{pid:?}") })
    }

    /// What the guest's console has shown.
    pub fn console(&self) -> String {
        let bytes = fs::read(self.console_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether the machine still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    fn console_file(&self) -> PathBuf {
        self.directory.path().join("console")
    }

    /// Waits for a line of which `pick` makes something.
    fn line<T>(&mut self, what: &str, limit: Duration, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let began = Instant::now();
        let mut buffer = [0; 4096];
        loop {
            while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                if let Some(found) = pick(String::from_utf8_lossy(&line).trim()) {
                    return Ok(found);
                }
            }
            if began.elapsed() > limit {
                let tail = program::tail(&self.console());
                // Kept, so that it can be looked at.
                let console = self.console_file();
                return Err(Error::NoAnswer { what: what.to_owned(), waited: limit, console, tail });
            }
            match self.control.read(&mut buffer) {
                Ok(0) => {
                    sleep(POLL);
                    self.process.check()?;
                }
                Ok(length) => self.received.extend(&buffer[..length]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    self.process.check()?;
                }
                Err(source) => return Err(Error::Io { attempt: "read what the guest says".to_owned(), source }),
            }
        }
    }
}

/// `status stdout. stderr.`, the last two in base64.
fn answer(line: &str) -> Option<Output> {
    let mut words = line.split(' ');
    let status = words.next()?.parse().ok()?;
    let mut text = || {
        let bytes = BASE64_STANDARD.decode(words.next()?.strip_suffix('.')?).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    Some(Output { status, stdout: text()?, stderr: text()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let output = Output { status: 1, stdout: String::new(), stderr: "no\n".into() };
        assert_eq!(answer("1 . bm8K."), Some(output));
        for line in ["", "1", "1 . bm8K", "x . .", "1 bm8K"] {
            assert_eq!(answer(line), None, "{line}");
        }
    }
}
