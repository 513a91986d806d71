//! A child process that cannot outlive this one.
//!
//! Each child runs under a small shell whose standard input is a pipe that only this process holds open, the
//! *lifeline*. When it closes, whether by [`Process::stop`], a panic, Ctrl-C or SIGKILL, the shell kills the child and what
//! the child has started; a line on it is a signal for the child alone.
//! They have their own process group, so a Ctrl-C in the terminal reaches none of them directly.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    command::tail,
    error::{Attempt, Error, Result},
};

/// How long a process may take to become ready: a second or two alone, longer beside a build.
const PROCESS_READY_WITHIN: Duration = Duration::from_mins(1);

/// How often it is asked.
const READY_POLL: Duration = Duration::from_millis(50);

/// Runs `"$@"` until it ends by itself or the lifeline closes; exits with its status. Each line on the lifeline is the
/// short name of a signal for it.
///
/// File descriptor 3 is the lifeline: the child must not hold it, and a background job's standard input would
/// otherwise be /dev/null. KILL, because all data is thrown away and nothing is gained by a slow end; to the whole group (0),
/// the shell included.
const SUPERVISE: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ while read -r signal <&3; do kill -s "$signal" "$child"; done; kill -s KILL 0; } 2>/dev/null &
watcher=$!
wait "$child"
status=$?
kill -s KILL "$watcher" 2>/dev/null
exit "$status"
"#;

/// Removes a directory once the lifeline has closed, while its users may still be dying.
const CLEAN_UP: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" 2>/dev/null && exit 0
    sleep 0.2
done
"#;

/// A supervised child, killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    supervisor: Child,
    lifeline: Option<ChildStdin>,
}

impl Process {
    /// Starts `program` with its standard output and error appended to `log`; `configure` adds its arguments.
    ///
    /// # Errors
    /// When the log cannot be opened or no process started. A `program` that is missing ends at once, see
    /// [`Process::check`].
    pub fn start(name: &str, program: &Path, log: &Path, configure: impl FnOnce(&mut Command)) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(log).attempt(|| format!("open {}", log.display()));
        let mut command = supervisor(SUPERVISE, name);
        command.arg(program).stdout(open()?).stderr(open()?);
        // Most are Go programs that live for minutes; half of an API server's start is the garbage collector.
        command.env("GOGC", "500");
        configure(&mut command);
        let mut supervisor = command.spawn().attempt(|| format!("start {name}"))?;
        let lifeline = supervisor.stdin.take();
        Ok(Self { name: name.to_owned(), log: log.to_owned(), supervisor, lifeline })
    }

    /// Whether the process still runs as it should.
    ///
    /// # Errors
    /// If it has ended, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                name: self.name.clone(),
                status: status.to_string(),
                log: self.log.clone(),
                tail: self.log_tail(),
            }),
        }
    }

    /// Process id of the shell whose child it is.
    pub fn supervisor(&self) -> u32 {
        self.supervisor.id()
    }

    /// Sends it a signal by its short name, such as `TERM` and `STOP`.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        let gone = || Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let sent = self.lifeline.as_mut().map_or_else(gone, |lifeline| writeln!(lifeline, "{name}"));
        sent.attempt(|| format!("send {name} to {}", self.name))
    }

    /// Waits until it ends by itself, and returns its exit status.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.supervisor.wait().attempt(|| format!("wait for {}", self.name))
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.ended(), Ok(None))
    }

    /// Lets the process be killed, without waiting for it.
    pub(crate) fn release(&mut self) {
        drop(self.lifeline.take());
    }

    /// Kills the process together with its shell, and returns when the shell is gone. The kernel may take a moment longer for the
    /// process.
    pub fn stop(&mut self) {
        self.release();
        // Fails only if it was waited for already.
        let _ = self.supervisor.wait();
    }

    /// What it has logged.
    pub(crate) fn log_text(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of what it has logged.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log_text())
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.supervisor.try_wait().attempt(|| format!("ask whether {} runs", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until `ready`, or fails with the process's log.
pub(crate) fn wait_until(process: &mut Process, what: &str, ready: impl Fn(&Process) -> bool) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < PROCESS_READY_WITHIN {
        process.check()?;
        if ready(process) {
            return Ok(());
        }
        sleep(READY_POLL);
    }
    Err(Error::NotReady { what: what.to_owned(), waited: PROCESS_READY_WITHIN, tail: process.log_tail() })
}

/// Removes a directory when it is dropped or when this process dies, in whatever way.
#[derive(Debug)]
pub(crate) struct Janitor {
    shell: Child,
    lifeline: Option<ChildStdin>,
}

impl Janitor {
    /// Starts watching over `directory`.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let mut command = supervisor(CLEAN_UP, "janitor");
        command.arg(directory).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn().attempt(|| "start the clean-up process".to_owned())?;
        let lifeline = shell.stdin.take();
        Ok(Self { shell, lifeline })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Fails only if it was waited for already.
        let _ = self.shell.wait();
    }
}

fn supervisor(script: &str, name: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, name]).stdin(Stdio::piped()).process_group(0);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(directory: &Path, arguments: &[&str]) -> Process {
        Process::start("test", Path::new("sh"), &directory.join("log"), |command| {
            command.arg("-c").args(arguments);
        })
        .unwrap()
    }

    fn alive(pid: &str) -> bool {
        // A zombie counts as gone.
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn wait_for(condition: impl Fn() -> bool) {
        for _ in 0..500 {
            if condition() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("the condition did not come true within 5 s");
    }

    #[test]
    fn a_stopped_process_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = start(directory.path(), &["echo $$; exec sleep 1000"]);
        wait_for(|| process.log_text().ends_with('\n'));
        let pid = process.log_text().trim().to_owned();
        assert!(process.is_running() && alive(&pid));
        process.stop();
        assert!(!process.is_running());
        wait_for(|| !alive(&pid));
    }

    #[test]
    fn what_it_has_started_is_gone_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = start(directory.path(), &["sleep 1000 & echo $!; wait"]);
        wait_for(|| process.log_text().ends_with('\n'));
        let pid = process.log_text().trim().to_owned();
        assert!(alive(&pid));
        process.stop();
        wait_for(|| !alive(&pid));
    }

    #[test]
    fn a_signal_reaches_the_child_and_its_status_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = start(directory.path(), &["trap 'exit 3' USR1; echo up; while :; do sleep 0.01; done"]);
        wait_for(|| process.log_text().ends_with('\n'));
        process.signal("USR1").unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(3));
    }

    #[test]
    fn a_process_that_fails_is_reported_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = start(directory.path(), &["echo out of cheese; exit 7"]);
        wait_for(|| process.log_text().contains("cheese"));
        let error = loop {
            match process.check() {
                Ok(()) => sleep(Duration::from_millis(5)),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("test ended") && error.contains('7') && error.contains("cheese"), "{error}");
    }

    #[test]
    fn the_child_does_not_hold_its_own_lifeline() {
        let directory = tempfile::tempdir().unwrap();
        let process = start(directory.path(), &["test -e /proc/self/fd/3 && echo held || echo free"]);
        wait_for(|| process.log_text().ends_with('\n'));
        assert_eq!(process.log_text(), "free\n");
    }

    #[test]
    fn the_janitor_removes_its_directory() {
        let directory = tempfile::tempdir().unwrap().keep();
        fs::write(directory.join("file"), "data").unwrap();
        let janitor = Janitor::start(&directory).unwrap();
        sleep(Duration::from_millis(20));
        assert!(directory.exists());
        drop(janitor);
        assert!(!directory.exists());
    }
}
