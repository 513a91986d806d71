//! A containerd of one's own, with everything it keeps in a temporary directory, spoken to as the kubelet does.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cri::runtime_service_client::RuntimeServiceClient;
use cxi_control_plane::{Family, Progress, Tool, Toolbox};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

#[allow(clippy::pedantic, missing_docs, reason = "generated")]
pub mod cri {
    include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
}

const IMAGE: &str = "localhost/injection:1";
const START_LIMIT: Duration = Duration::from_mins(1);

/// A running containerd with one pod sandbox.
pub struct Containerd {
    process: Child,
    directory: tempfile::TempDir,
    ctr: PathBuf,
    client: RuntimeServiceClient<Channel>,
    sandbox: (String, cri::PodSandboxConfig),
    containers: u32,
}

/// A container that does nothing until it is told to.
#[derive(Debug)]
pub struct Container(String);

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
        let sandbox = (String::new(), sandbox());
        let mut this = Self { process, directory, ctr, client, sandbox, containers: 0 };
        this.wait().await;
        this.import_image();
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

    fn import_image(&self) {
        let archive = image(self.directory.path());
        let output = self.ctr(&["images", "import", "--snapshotter", "native"], &[&archive.display().to_string()]);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
    }

    fn ctr(&self, command: &[&str], arguments: &[&str]) -> std::process::Output {
        let socket = self.directory.path().join("containerd.sock");
        let mut ctr = Command::new(&self.ctr);
        ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io"]).args(command).args(arguments);
        ctr.output().unwrap()
    }

    /// Creates and starts a container as the kubelet does with `config`, whose name and image are filled in.
    pub async fn run(&mut self, config: cri::ContainerConfig) -> Result<Container, Status> {
        self.containers += 1;
        let metadata = Some(cri::ContainerMetadata { name: format!("c{}", self.containers) });
        let image = Some(cri::ImageSpec { image: IMAGE.into() });
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.sandbox.0.clone(),
            config: Some(cri::ContainerConfig { metadata, image, ..config }),
            sandbox_config: Some(self.sandbox.1.clone()),
        };
        let container_id = self.client.create_container(request).await?.into_inner().container_id;
        let request = cri::StartContainerRequest { container_id: container_id.clone() };
        self.client.start_container(request).await?;
        Ok(Container(container_id))
    }

    /// What a shell command in the container prints; it has to succeed.
    pub async fn shell(&mut self, container: &Container, command: &str) -> String {
        let cmd = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
        let request = cri::ExecSyncRequest { container_id: container.0.clone(), cmd, timeout: 60 };
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
    /// Also after a failure nothing may be left: no process, no mount.
    fn drop(&mut self) {
        let tasks = String::from_utf8_lossy(&self.ctr(&["tasks", "list", "--quiet"], &[]).stdout).into_owned();
        for task in tasks.lines() {
            self.ctr(&["tasks", "delete", "--force"], &[task]);
        }
        end(&self.process);
        let since = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && since.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let prefix = self.directory.path().display().to_string();
        for shim in processes_of(&prefix) {
            let _ = kill_process(shim, Signal::KILL);
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|place| place.starts_with(&prefix))
        {
            let _ = Command::new("umount").args(["--lazy", place]).status();
        }
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

/// Where a program is that a Debian package brings.
fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: install the Debian package {package}"))
}

/// Everything in `directory`; copies instead of overlays, which do not lie on each other; the host may forbid to lower
/// the OOM score.
fn configuration(directory: &Path, cdi_directory: Option<&Path>) -> String {
    let directory = directory.display();
    let enable_cdi = cdi_directory.is_some();
    let cdi_directory = cdi_directory.unwrap_or(Path::new("/nowhere")).display();
    format!(
        r#"version = 3
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "native"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  enable_cdi = {enable_cdi}
  cdi_spec_dirs = ["{cdi_directory}"]
  restrict_oom_score_adj = true
[plugins."io.containerd.transfer.v1.local"]
  unpack_config = [{{ platform = "linux", snapshotter = "native" }}]
"#
    )
}

/// A pod in the node's network, so that no CNI is needed.
fn sandbox() -> cri::PodSandboxConfig {
    let namespace_options = Some(cri::NamespaceOption { network: cri::NamespaceMode::Node.into() });
    let security_context = Some(cri::LinuxSandboxSecurityContext { namespace_options });
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "default".into() }),
        linux: Some(cri::LinuxPodSandboxConfig { security_context }),
    }
}

fn lazy_channel(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// An image of a shell, as an archive of the form of the Open Container Initiative.
fn image(directory: &Path) -> PathBuf {
    let busybox = fs::read(program("busybox", "busybox-static")).unwrap();
    let root = directory.join("image-root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/busybox"), busybox).unwrap();
    run("chmod", &["0755", &root.join("bin/busybox").display().to_string()]);
    for name in ["sh", "sleep", "cat", "stat", "env", "mknod", "head", "ls", "grep", "touch"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let layout = directory.join("image");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let layer = directory.join("layer.tar");
    run("tar", &["-C", &root.display().to_string(), "-cf", &layer.display().to_string(), "."]);

    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let text = |value: &Value| serde_json::to_vec(value).unwrap();
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &fs::read(layer).unwrap());
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "3600"], "Env": ["PATH=/bin", "FI_LOG_LEVEL=of-the-image"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = blob("application/vnd.oci.image.config.v1+json", &text(&config));
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]});
    let mut manifest = blob(manifest_type, &text(&manifest));
    manifest["annotations"] = json!({"io.containerd.image.name": IMAGE});
    fs::write(layout.join("index.json"), text(&json!({"schemaVersion": 2, "manifests": [manifest]}))).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    let archive = directory.join("image.tar");
    run("tar", &["-C", &layout.display().to_string(), "-cf", &archive.display().to_string(), "."]);
    archive
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}
