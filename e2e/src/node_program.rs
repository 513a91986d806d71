//! A program of a node, started as its pod says, on the files of a soft node: what the operator writes into a pod is what
//! the program understands.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use cxi_control_plane::Process;
use cxi_hardware::Root;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec};

use crate::operator::{beside, free_address, log_tail};

/// Where pods have the host's directories.
const HOST: &str = "/host/";

/// The metrics exporter of a node. It is killed when dropped.
#[derive(Debug)]
pub struct Exporter {
    process: Process,
    address: SocketAddr,
    log: PathBuf,
}

impl Exporter {
    /// Starts the exporter with command, arguments and environment of `pod`, but on a loopback address: there is one
    /// network for all soft nodes. `root` has the files of the pod's node; output is added to `log`.
    ///
    /// # Errors
    /// If the pod has another shape than an exporter's, or the program is missing.
    pub fn start(pod: &Pod, root: &Root, log: &Path) -> Result<Self> {
        let spec = pod.spec.as_ref().context("the exporter's pod has no spec")?;
        let container = spec.containers.first().context("the exporter's pod has no container")?;
        let (name, arguments) = command_line(container)?;
        let path =
            beside(name)?.with_context(|| format!("{name} is not beside this test: cargo build --bin {name}"))?;
        let mut variables = Vec::new();
        for variable in container.env.iter().flatten() {
            variables.push((variable.name.clone(), on_this_machine(&value(variable, spec)?, root)?));
        }
        let address = free_address()?;
        let listen = variables.iter_mut().find(|(name, _)| name == "CXI_EXPORTER_LISTEN");
        let (_, listen) = listen.context("the exporter's pod does not say where to listen")?;
        let port = container.ports.iter().flatten().next().map(|port| format!(":{}", port.container_port));
        ensure!(port.as_ref() == Some(listen), "the exporter listens on {listen}, and its pod has the port {port:?}");
        *listen = address.to_string();
        // In a pod its own `/proc/modules` is the node's.
        variables.push(("PROCFS_ROOT".to_owned(), root.proc().display().to_string()));
        let process = Process::start("exporter", &path, log, |command| {
            command.args(arguments).envs(variables);
        })?;
        Ok(Self { process, address, log: log.to_owned() })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// If it has ended already, or ends with an error.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the exporter ended with {status}");
        Ok(())
    }
}

/// Program and arguments of a container.
fn command_line(container: &Container) -> Result<(&str, Vec<&String>)> {
    let mut words = container.command.iter().flatten().chain(container.args.iter().flatten());
    let program = words.next().context("the container has no command")?;
    Ok((program, words.collect()))
}

/// What a kubelet would make of a variable.
fn value(variable: &EnvVar, spec: &PodSpec) -> Result<String> {
    let field = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
    match field.map(|field| field.field_path.as_str()) {
        None => Ok(variable.value.clone().unwrap_or_default()),
        Some("spec.nodeName") => spec.node_name.clone().context("the pod is on no node"),
        // Soft nodes are all on this machine.
        Some("status.hostIPs") => Ok("127.0.0.1".to_owned()),
        Some(other) => bail!("{} is the field {other}, which soft nodes do not know", variable.name),
    }
}

/// A path below the host's directories in the pod, as a path on this machine.
fn on_this_machine(value: &str, root: &Root) -> Result<String> {
    let Some(path) = value.strip_prefix(HOST) else { return Ok(value.to_owned()) };
    let (directory, rest) = path.split_once('/').unwrap_or((path, ""));
    let directory = match directory {
        "sys" => root.sys(),
        "dev" => root.dev(),
        "proc" => root.proc(),
        "run" => root.run(),
        other => bail!("{HOST}{other} is a directory of the host that soft nodes do not have"),
    };
    Ok(directory.join(rest).display().to_string())
}
