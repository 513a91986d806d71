//! The operator under test: a child process with the rights of its own `ServiceAccount`.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Context, Result};
use cxi_control_plane::Process;

/// Names the operator's binary, if it is not beside the test's.
pub const BINARY_ENV: &str = "CXI_OPERATOR_BIN";

/// The operator as it is shipped.
pub const SHIPPED: &str = "cxi-operator";

/// The operator that takes `--fault-write`.
pub const FAULTY: &str = "cxi-operator-faults";

/// Image of the device plugin, as the operator is told by its environment.
pub const DEVICE_PLUGIN_IMAGE: &str = "registry.example/cxi-device-plugin:test";

/// Image of the node agent.
pub const AGENT_IMAGE: &str = "registry.example/cxi-agent:test";

/// Exit status of an operator that died by its fault.
pub const DIED: i32 = 86;

/// How much of a log is shown, in bytes.
const TAIL: usize = 16_000;

/// A running operator. It is killed when dropped.
#[derive(Debug)]
pub struct Operator {
    process: Process,
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
        let process = Process::start("operator", &binary(program)?, log, |command| {
            command.arg("--listen").arg(address.to_string());
            for argument in arguments {
                command.arg(argument.as_ref());
            }
            if env::var_os("RUST_LOG").is_none() {
                command.env("RUST_LOG", "info,cxi_operator=debug");
            }
            command
                .env("KUBECONFIG", kubeconfig)
                .env("OPERATOR_NAMESPACE", namespace)
                .env("RELATED_IMAGE_DEVICE_PLUGIN", DEVICE_PLUGIN_IMAGE)
                .env("RELATED_IMAGE_AGENT", AGENT_IMAGE);
        })?;
        Ok(Self { process, log: log.to_owned(), address })
    }

    /// Where it serves `/healthz`, `/readyz` and `/metrics`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Process id of its supervisor, whose child it is.
    pub fn supervisor(&self) -> u32 {
        self.process.supervisor()
    }

    /// Asks it to end and returns its exit status.
    ///
    /// # Errors
    /// If it has ended already, or cannot be waited for.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        Ok(self.process.wait()?)
    }

    /// Sends a signal by its short name, such as `STOP` and `CONT`.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        Ok(self.process.signal(name)?)
    }

    /// Its exit status, if it has ended by itself.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.ended()?)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
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
    beside(program)?.with_context(|| {
        format!(
            "{program} is not beside this test; build it with `cargo build -p cxi-operator --features faults --bin \
             {program}`, or name the shipped operator in {BINARY_ENV}"
        )
    })
}

/// A program of this workspace that was built beside this process's.
pub(crate) fn beside(program: &str) -> Result<Option<PathBuf>> {
    let this = env::current_exe().context("find this process's binary")?;
    // A test lies in target/debug/deps, a program in target/debug.
    let mut places = this.ancestors().skip(1).take(2).map(|directory| directory.join(program));
    Ok(places.find(|path| path.is_file()))
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}
