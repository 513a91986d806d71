//! A running containerd and its containers.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cxi_control_plane::{Family, Progress, Tool, Toolbox};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::configuration::{configuration, sandbox};
use crate::cri::{self, runtime_service_client::RuntimeServiceClient};
use crate::left_over::clear;
use crate::program::program;
use crate::shell_image::{self, IMAGE};

const START_LIMIT: Duration = Duration::from_mins(1);
const HEARING_LIMIT: Duration = Duration::from_secs(5);

/// A running containerd with one pod sandbox.
pub struct Containerd {
    process: Child,
    directory: tempfile::TempDir,
    ctr: PathBuf,
    client: RuntimeServiceClient<Channel>,
    sandbox: (String, cri::PodSandboxConfig),
    containers: u32,
}

/// A container. One of the shell image does nothing until it is told to.
#[derive(Debug)]
pub struct Container {
    id: String,
    log: PathBuf,
}

impl Containerd {
    /// Starts one that reads CDI files in `cdi_directory`, or does not do CDI.
    pub async fn start(cdi_directory: Option<&Path>) -> Self {
        let runc = program("runc", "runc");
        let toolbox = Toolbox::ensure(&[Family::Containerd], &Progress::stderr()).unwrap();
        let path = |tool| toolbox.path(tool).unwrap().to_owned();
        let (containerd, ctr) = (path(Tool::Containerd), path(Tool::Ctr));
        // Short: a unix socket's path has at most 107 bytes.
        let directory = tempfile::Builder::new().prefix("cd-").tempdir_in("/tmp").unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("config.toml"), configuration(directory.path(), cdi_directory)).unwrap();
        let log = File::create(at("log")).unwrap();
        let search = [containerd.parent().unwrap(), runc.parent().unwrap(), Path::new("/usr/sbin:/usr/bin:/sbin:/bin")];
        let search: Vec<_> = search.iter().map(|directory| directory.display().to_string()).collect();
        let process = Command::new(&containerd)
            .arg("--config")
            .arg(at("config.toml"))
            .env("PATH", search.join(":"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let client = RuntimeServiceClient::new(lazy_channel(at("containerd.sock")));
        let sandbox = (String::new(), sandbox(directory.path()));
        let mut this = Self { process, directory, ctr, client, sandbox, containers: 0 };
        this.wait().await;
        this.import(&shell_image::build(this.directory.path()));
        this.sandbox.0 = this.run_sandbox().await;
        this
    }

    async fn wait(&mut self) {
        let since = Instant::now();
        loop {
            match self.client.version(cri::VersionRequest {}).await {
                Ok(_) => return,
                Err(error) if since.elapsed() > START_LIMIT => self.fail(&error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            assert!(self.process.try_wait().unwrap().is_none(), "containerd ended: {}", self.log());
        }
    }

    /// The part that serves the kubelet hears of an imported image a little later.
    async fn run_sandbox(&mut self) -> String {
        let since = Instant::now();
        loop {
            let request = cri::RunPodSandboxRequest { config: Some(self.sandbox.1.clone()) };
            match self.client.run_pod_sandbox(request).await {
                Ok(response) => return response.into_inner().pod_sandbox_id,
                Err(error) if error.message().contains("sandbox image") && since.elapsed() < START_LIMIT => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Makes the image in an archive known under the name that the archive gives it.
    pub fn import(&self, archive: &Path) {
        let output = self.ctr(&["images", "import", "--snapshotter", "native"], &[&archive.display().to_string()]);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
    }

    /// Fetches what an image's name stands for, on a node that is told of mirrors by the files of a directory such as
    /// `/etc/containerd/certs.d`.
    ///
    /// # Errors
    /// With what containerd says when nobody has it.
    pub fn fetch(&self, hosts: &Path, image: &str) -> Result<(), String> {
        let output = self.ctr(&["content", "fetch", "--hosts-dir"], &[&hosts.display().to_string(), image]);
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn ctr(&self, command: &[&str], arguments: &[&str]) -> std::process::Output {
        let socket = self.directory.path().join("containerd.sock");
        let mut ctr = Command::new(&self.ctr);
        ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io"]).args(command).args(arguments);
        ctr.output().unwrap()
    }

    /// Creates and starts a container of the shell image as the kubelet does with `config`, whose name is filled in.
    ///
    /// # Errors
    /// When containerd refuses.
    pub async fn run(&mut self, config: cri::ContainerConfig) -> Result<Container, Status> {
        self.run_image(IMAGE, config).await
    }

    /// The same with an image that was imported.
    ///
    /// # Errors
    /// When containerd refuses.
    pub async fn run_image(&mut self, image: &str, config: cri::ContainerConfig) -> Result<Container, Status> {
        self.containers += 1;
        let name = format!("c{}", self.containers);
        let log_path = format!("{name}.log");
        let log = self.directory.path().join(&log_path);
        let metadata = Some(cri::ContainerMetadata { name });
        let image = Some(cri::ImageSpec { image: image.into() });
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.sandbox.0.clone(),
            config: Some(cri::ContainerConfig { metadata, image, log_path, ..config }),
            sandbox_config: Some(self.sandbox.1.clone()),
        };
        let since = Instant::now();
        let created = loop {
            match self.client.create_container(request.clone()).await {
                // The part that serves the kubelet hears of an imported image a little later.
                Err(error) if error.code() == Code::NotFound && since.elapsed() < HEARING_LIMIT => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                outcome => break outcome?,
            }
        };
        let container_id = created.into_inner().container_id;
        let request = cri::StartContainerRequest { container_id: container_id.clone() };
        self.client.start_container(request).await?;
        Ok(Container { id: container_id, log })
    }

    /// Waits for a container to end, and returns its exit status.
    pub async fn wait_for_end(&mut self, container: &Container) -> i32 {
        let since = Instant::now();
        loop {
            let status = self.status(container).await.status.unwrap_or_default();
            if status.state() == cri::ContainerState::ContainerExited {
                return status.exit_code;
            }
            assert!(since.elapsed() < START_LIMIT, "it does not end: {}", self.output(container));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks a container to end as the kubelet does, kills it after ten seconds, and returns its exit status.
    pub async fn stop(&mut self, container: &Container) -> i32 {
        let request = cri::StopContainerRequest { container_id: container.id.clone(), timeout: 10 };
        if let Err(error) = self.client.stop_container(request).await {
            self.fail(&error);
        }
        self.wait_for_end(container).await
    }

    /// Process of a running container, as the host numbers it.
    pub async fn process(&mut self, container: &Container) -> u64 {
        let status = self.status(container).await;
        let info: Value = serde_json::from_str(&status.info["info"]).unwrap();
        info["pid"].as_u64().unwrap()
    }

    async fn status(&mut self, container: &Container) -> cri::ContainerStatusResponse {
        let request = cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
        let status = self.client.container_status(request).await;
        status.unwrap_or_else(|error| self.fail(&error)).into_inner()
    }

    /// What a container has printed on both outputs.
    pub fn output(&self, container: &Container) -> String {
        let log = fs::read_to_string(&container.log).unwrap_or_default();
        // Time, output and whether the line is whole stand before each line.
        log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).fold(String::new(), |mut text, line| {
            writeln!(text, "{line}").unwrap();
            text
        })
    }

    /// What a shell command in the container prints; it has to succeed.
    pub async fn shell(&mut self, container: &Container, command: &str) -> String {
        let cmd = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
        let request = cri::ExecSyncRequest { container_id: container.id.clone(), cmd, timeout: 60 };
        let response = self.client.exec_sync(request).await;
        let output = response.unwrap_or_else(|error| self.fail(&error)).into_inner();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(output.exit_code, 0, "{command}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn fail(&self, error: &Status) -> ! {
        panic!("{error}\n{}", self.log())
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap();
        log.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().fold(String::new(), |mut text, line| {
            writeln!(text, "{line}").unwrap();
            text
        })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let tasks = String::from_utf8_lossy(&self.ctr(&["tasks", "list", "--quiet"], &[]).stdout).into_owned();
        for task in tasks.lines() {
            self.ctr(&["tasks", "delete", "--force"], &[task]);
        }
        clear(&mut self.process, self.directory.path());
    }
}

fn lazy_channel(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}
