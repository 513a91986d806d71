//! The operator under test: a child process with the rights of its own `ServiceAccount`.

use std::{
    env,
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::harness::{AGENT_IMAGE, DEVICE_PLUGIN_IMAGE};

/// Names the operator's binary, if it is not beside the test's.
pub const BINARY_ENV: &str = "CXI_OPERATOR_BIN";

/// The operator as it is shipped.
pub const SHIPPED: &str = "cxi-operator";

/// The operator that takes `--fault-write`.
pub const FAULTY: &str = "cxi-operator-faults";

/// Exit status of an operator that died by its fault.
pub const DIED: i32 = 86;

/// How much of a log is shown, in bytes.
const TAIL: usize = 16_000;

/// Runs `"$@"`. Each line on standard input is a signal for it; when standard input closes, because of us or because this
/// process died, it is killed.
const SUPERVISE: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ while read -r signal <&3; do kill -s "$signal" "$child"; done; kill -s KILL "$child"; } 2>/dev/null &
watcher=$!
wait "$child"
status=$?
kill -s KILL "$watcher" 2>/dev/null
exit "$status"
"#;

/// A running operator. It is killed when dropped.
#[derive(Debug)]
pub struct Operator {
    supervisor: Child,
    signals: Option<ChildStdin>,
    log: PathBuf,
    address: SocketAddr,
}

impl Operator {
    /// Starts an operator ([`SHIPPED`] or [`FAULTY`]) with a kubeconfig, adding its output to `log`.
    ///
    /// # Errors
    /// If its binary is missing or does not start.
    pub fn start<S: AsRef<str>>(
        program: &str,
        kubeconfig: &Path,
        namespace: &str,
        log: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let address = free_address()?;
        let open = || File::options().create(true).append(true).open(log).context("open the operator's log");
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISE, "operator"]).arg(binary(program)?).arg("--listen").arg(address.to_string());
        for argument in arguments {
            command.arg(argument.as_ref());
        }
        if env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info,cxi_operator=debug");
        }
        let mut supervisor = command
            .env("KUBECONFIG", kubeconfig)
            .env("OPERATOR_NAMESPACE", namespace)
            .env("RELATED_IMAGE_DEVICE_PLUGIN", DEVICE_PLUGIN_IMAGE)
            .env("RELATED_IMAGE_AGENT", AGENT_IMAGE)
            .stdin(Stdio::piped())
            .stdout(open()?)
            .stderr(open()?)
            .process_group(0)
            .spawn()
            .context("start the operator")?;
        let signals = supervisor.stdin.take();
        Ok(Self { supervisor, signals, log: log.to_owned(), address })
    }

    /// Where it serves `/healthz`, `/readyz` and `/metrics`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Process id of its supervisor, whose child it is.
    pub fn supervisor(&self) -> u32 {
        self.supervisor.id()
    }

    /// Kills it as SIGKILL does and returns when it is gone.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(mut self) -> Result<()> {
        self.end().map(|_| ())
    }

    /// Asks it to end and returns its exit status.
    ///
    /// # Errors
    /// If it has ended already, or cannot be waited for.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.supervisor.wait().context("wait for the operator")
    }

    /// Sends a signal by its short name, such as `STOP` and `CONT`.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        let signals = self.signals.as_mut().context("the operator was killed before")?;
        writeln!(signals, "{name}").with_context(|| format!("send {name} to the operator"))
    }

    /// Its exit status, if it has ended by itself.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.supervisor.try_wait().context("ask whether the operator runs")
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    fn end(&mut self) -> Result<ExitStatus> {
        drop(self.signals.take());
        self.supervisor.wait().context("wait for the operator")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Fails only if it was waited for already.
        let _ = self.end();
    }
}

/// The end of a log file; nothing if there is none.
pub fn log_tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned()
}

/// An operator's binary: for the shipped one that named in the environment, else the one beside this process's.
fn binary(program: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(BINARY_ENV).filter(|_| program == SHIPPED) {
        return Ok(path.into());
    }
    let this = env::current_exe().context("find this process's binary")?;
    // A test lies in target/debug/deps, a program in target/debug.
    let beside = this.ancestors().skip(1).take(2).map(|directory| directory.join(program));
    for path in beside {
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!(
        "{program} is not beside {}; build it with `cargo build -p cxi-operator --features faults --bin {program}`, or name \
         the shipped operator in {BINARY_ENV}",
        this.display()
    )
}

/// A loopback address that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}
