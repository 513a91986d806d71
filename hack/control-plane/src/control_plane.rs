//! One running control plane.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    command,
    error::{Attempt, Error, Result},
    kubeconfig::{Cluster, Credential},
    options::Options,
    pki::Authority,
    ports::{Ports, on_free_ports},
    process::{Janitor, Process},
    request_log,
    servers::{self, Files},
    services::Services,
    tools::{Tool, Toolbox},
};

/// How long the servers may take to become ready: about 3 s alone on two cores, much longer beside a build.
const SERVERS_READY_WITHIN: Duration = Duration::from_mins(2);

/// How often readiness is asked for.
const READY_POLL: Duration = Duration::from_millis(50);

/// A running etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and KMM and OLM once installed.
///
/// All of it stops when this is dropped or when this process dies in whatever way. All methods may be called from
/// several threads.
#[derive(Debug)]
pub struct ControlPlane {
    // In the order in which they end: clients before servers, the data last.
    add_ons: Mutex<BTreeMap<String, Process>>,
    servers: Mutex<Vec<Process>>,
    pub(crate) services: Option<Services>,
    /// How the API server is started, and its port.
    apiserver: (Vec<String>, u16),
    data: Data,
    pub(crate) toolbox: Toolbox,
    pub(crate) authority: Authority,
    cluster: Cluster,
    admin: PathBuf,
    files: Files,
    audit: bool,
}

impl ControlPlane {
    /// Starts a control plane with an empty store and waits until it is ready, about 3 s.
    ///
    /// # Errors
    /// If a tool is missing from `toolbox`, or a server ends or is not ready within two minutes. The error shows the
    /// end of that server's log.
    pub fn start(toolbox: &Toolbox, options: &Options) -> Result<Self> {
        on_free_ports(|| Self::start_once(toolbox, options))
    }

    fn start_once(toolbox: &Toolbox, options: &Options) -> Result<Self> {
        let data = Data::create(options.keep_data)?;
        let ports = Ports::choose()?;
        let authority = Authority::new()?;
        let files = Files::write(data.path(), &authority, request_log::path(ports.apiserver)?)?;
        let cluster =
            Cluster { server: format!("https://127.0.0.1:{}", ports.apiserver), authority: authority.certificate() };
        let kubeconfig = |user: &str, group: Option<&str>| {
            let path = data.path().join(format!("{}.kubeconfig", file_name(user)));
            let pair = authority.client(user, group)?;
            cluster.write(&path, user, &Credential::Certificate(&pair), "default")
        };
        let admin = kubeconfig("admin", Some("system:masters"))?;
        let controller_manager = kubeconfig("system:kube-controller-manager", None)?;
        let scheduler = kubeconfig("system:kube-scheduler", None)?;

        let services = options.services.then(|| Services::start(data.path())).transpose()?;
        let mut apiserver = servers::apiserver(data.path(), &files, ports, options);
        apiserver.extend(services.iter().map(Services::flag));
        let servers = vec![
            start(toolbox, data.path(), Tool::Etcd, &servers::etcd(&data.path().join("etcd"), ports))?,
            start(toolbox, data.path(), Tool::KubeApiserver, &apiserver)?,
        ];
        let plane = Self {
            add_ons: Mutex::default(),
            servers: Mutex::new(servers),
            services,
            apiserver: (apiserver, ports.apiserver),
            toolbox: toolbox.clone(),
            authority,
            cluster,
            admin,
            audit: options.audit,
            data,
            files,
        };
        plane.wait_until_ready(ports.apiserver)?;
        let clients = [
            start(
                toolbox,
                plane.data_dir(),
                Tool::KubeControllerManager,
                &servers::controller_manager(&controller_manager, &plane.files),
            )?,
            start(toolbox, plane.data_dir(), Tool::KubeScheduler, &servers::scheduler(&scheduler))?,
        ];
        // Before etcd and the API server in the list, because a Vec drops from its front.
        plane.servers().splice(0..0, clients);
        Ok(plane)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// The API server, as in `https://127.0.0.1:40123`.
    pub fn server_url(&self) -> &str {
        &self.cluster.server
    }

    /// The certificate of the authority that signed the API server's certificate.
    pub fn ca_path(&self) -> &Path {
        &self.files.authority
    }

    /// The directory that holds kubeconfigs, certificates and one `<name>.log` per process.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// The API server's audit log, one JSON object per line, if [`Options::audit`] was set.
    pub fn audit_log(&self) -> Option<&Path> {
        self.audit.then_some(self.files.audit_log.as_path())
    }

    /// Runs kubectl as administrator and returns what it printed.
    ///
    /// # Errors
    /// If kubectl fails; the error shows what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output(self.kubectl_command()?.args(arguments))
    }

    /// Runs kubectl as administrator with text on its standard input.
    ///
    /// # Errors
    /// If kubectl fails; the error shows what it said.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        command::output_with_input(self.kubectl_command()?.args(arguments), Some(input))
    }

    /// Applies YAML or JSON documents server-side, as administrator, and returns what kubectl printed.
    ///
    /// # Errors
    /// If the API server refuses one; the error shows its message.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], yaml)
    }

    /// Waits until every CustomResourceDefinition is served.
    ///
    /// # Errors
    /// If one is not within a minute.
    pub fn wait_for_crds(&self) -> Result<()> {
        let since = Instant::now();
        loop {
            match self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]) {
                // kubectl gives up on one that is so new that it has no conditions at all.
                Err(Error::Command { output, .. })
                    if output.contains("conditions accessor error") && since.elapsed() < SERVERS_READY_WITHIN =>
                {
                    sleep(READY_POLL);
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Writes a kubeconfig with a fresh token, good for ten hours, of a service account that exists.
    ///
    /// # Errors
    /// If the service account does not exist.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace, "--duration", "10h"])?;
        let path = self.data_dir().join(format!("{}.{}.kubeconfig", file_name(namespace), file_name(name)));
        self.cluster.write(&path, name, &Credential::Token(token.trim()), namespace)
    }

    /// Writes a kubeconfig for a user of that name, in `group` if given. The user may do what RBAC grants it;
    /// members of `system:masters` may do everything.
    ///
    /// # Errors
    /// If the certificate cannot be made or the file not be written.
    pub fn user_kubeconfig(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let path = self.data_dir().join(format!("{}.kubeconfig", file_name(user)));
        let pair = self.authority.client(user, group)?;
        self.cluster.write(&path, user, &Credential::Certificate(&pair), "default")
    }

    /// An error, with the end of its log, if one of the servers has ended.
    ///
    /// # Errors
    /// If one has.
    pub fn check(&self) -> Result<()> {
        self.servers().iter_mut().try_for_each(Process::check)
    }

    /// Kills the API server as SIGKILL does, and starts it again on the same port after `away`. Everything else goes on.
    ///
    /// # Errors
    /// If it does not become ready again; the error shows the end of its log.
    pub fn restart_api_server(&self, away: Duration) -> Result<()> {
        let (arguments, port) = &self.apiserver;
        {
            let mut servers = self.servers();
            if let Some(mut gone) = servers.pop() {
                gone.stop();
            }
            sleep(away);
            servers.push(start(&self.toolbox, self.data_dir(), Tool::KubeApiserver, arguments)?);
        }
        self.wait_until_ready(*port)
    }

    fn kubectl_command(&self) -> Result<Command> {
        let mut command = Command::new(self.toolbox.path(Tool::Kubectl)?);
        // Its own discovery cache: the one in the home directory is shared between servers on the same port.
        command
            .env("KUBECONFIG", &self.admin)
            .env("KUBECACHEDIR", self.data_dir().join("kubectl-cache"))
            .env_remove("KUBECTL_EXTERNAL_DIFF");
        Ok(command)
    }

    /// The processes of what is installed, by a name of its own for each. They stop before the servers.
    pub(crate) fn add_ons(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        // Nothing that holds the lock leaves the map half changed.
        self.add_ons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn servers(&self) -> MutexGuard<'_, Vec<Process>> {
        // Nothing that holds the lock leaves the list half changed.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_ready(&self, port: u16) -> Result<()> {
        let since = Instant::now();
        while since.elapsed() < SERVERS_READY_WITHIN {
            self.check()?;
            // Only a server that accepts connections is worth the start of a kubectl.
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
                && self.kubectl(&["get", "--raw", "/readyz", "--request-timeout", "5s"]).is_ok()
            {
                return Ok(());
            }
            sleep(READY_POLL);
        }
        let tail = self.servers().last().map(Process::log_tail).unwrap_or_default();
        Err(Error::NotReady { what: "kube-apiserver".to_owned(), waited: SERVERS_READY_WITHIN, tail })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // All lifelines at once, then the waiting: the whole end takes as long as the slowest, not the sum.
        self.add_ons().values_mut().for_each(Process::release);
        for server in self.servers().iter_mut() {
            server.release();
        }
    }
}

fn start(toolbox: &Toolbox, data: &Path, tool: Tool, arguments: &[String]) -> Result<Process> {
    let log = data.join(format!("{}.log", tool.name()));
    Process::start(tool.name(), toolbox.path(tool)?, &log, |command| {
        command.args(arguments);
    })
}

/// A user name such as `system:node:a` as a file name.
fn file_name(user: &str) -> String {
    user.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.', "-")
}

/// The data directory, removed at the end in whatever way the process ends.
#[derive(Debug)]
struct Data {
    path: PathBuf,
    // In this order: the directory is removed at once, the janitor finds nothing left.
    _directory: Option<TempDir>,
    _janitor: Option<Janitor>,
}

impl Data {
    fn create(keep: bool) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("cxi-control-plane-")
            .tempdir()
            .attempt(|| "create a temporary directory for the control plane".to_owned())?;
        let path = fs::canonicalize(directory.path()).attempt(|| "find the temporary directory".to_owned())?;
        if keep {
            return Ok(Self { path: directory.keep(), _directory: None, _janitor: None });
        }
        let janitor = Janitor::start(&path)?;
        Ok(Self { path, _directory: Some(directory), _janitor: Some(janitor) })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_become_file_names() {
        assert_eq!(file_name("system:node:n1.example"), "system-node-n1.example");
        assert_eq!(file_name("../x"), "..-x");
    }
}
