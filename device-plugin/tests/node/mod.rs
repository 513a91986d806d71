//! A node as the plugin sees it: a tree as /sys and /dev, a kubelet's registration and PodResources servers on real
//! unix sockets.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use cxi_api::Advertise;
use cxi_device_plugin::{
    kubelet_api::{
        device_id::Sharing,
        proto::{
            podresources::{
                ContainerDevices, ContainerResources, ListPodResourcesRequest, ListPodResourcesResponse, PodResources,
                pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
            },
            v1beta1::{
                Device, Empty, ListAndWatchResponse, RegisterRequest,
                device_plugin_client::DevicePluginClient,
                registration_server::{Registration, RegistrationServer},
            },
        },
    },
    plugin::{self, Config, PluginError},
};
use cxi_hardware::{Root, retry_handler::Expectation};
use cxi_injection::{libraries::Release, provision::Sources};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

/// The promise: a change on the node is known to the kubelet within this time.
pub const PROMPT: Duration = Duration::from_secs(2);
/// For what has no promise, on a busy machine.
pub const SOON: Duration = Duration::from_secs(8);
/// Long enough for something wrong to happen.
pub const A_WHILE: Duration = Duration::from_millis(1500);

/// A temporary directory with everything in it.
pub struct Node(tempfile::TempDir);

impl Node {
    pub fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        for directory in ["sys/class/cxi", "dev", "plugins", "pod-resources"] {
            fs::create_dir_all(node.path(directory)).unwrap();
        }
        node
    }

    pub fn with(nics: &[(&str, &str, u32)]) -> Self {
        let node = Self::new();
        for (name, address, numa_node) in nics {
            node.add(name, address, *numa_node);
        }
        node
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn plugin_socket(&self) -> PathBuf {
        self.path("plugins/cxi-hpe.com_cxi.sock")
    }

    /// A healthy NIC.
    pub fn add(&self, name: &str, address: &str, numa_node: u32) {
        let device = self.path("sys/devices").join(address);
        fs::create_dir_all(device.join("properties")).unwrap();
        fs::create_dir_all(device.join("cxi").join(name)).unwrap();
        fs::write(device.join("vendor"), "0x17db\n").unwrap();
        fs::write(device.join("device"), "0x0501\n").unwrap();
        fs::write(device.join("numa_node"), format!("{numa_node}\n")).unwrap();
        self.set_link(address, true);
        symlink(format!("../../../{address}"), device.join("cxi").join(name).join("device")).unwrap();
        // Any device will do.
        symlink("/dev/full", self.path("dev").join(name)).unwrap();
        let class = self.path("sys/class/cxi").join(name);
        symlink(format!("../../devices/{address}/cxi/{name}"), class).unwrap();
    }

    pub fn remove(&self, name: &str, address: &str) {
        fs::remove_file(self.path("sys/class/cxi").join(name)).unwrap();
        fs::remove_dir_all(self.path("sys/devices").join(address)).unwrap();
        fs::remove_file(self.path("dev").join(name)).unwrap();
    }

    pub fn set_link(&self, address: &str, up: bool) {
        // Replaced at once, as the kernel does it: a reader never sees half of it.
        let link = self.path("sys/devices").join(address).join("properties/link");
        let new = link.with_extension("new");
        fs::write(&new, if up { "1\n" } else { "0\n" }).unwrap();
        fs::rename(new, link).unwrap();
    }

    pub fn config(&self, sharing: Sharing) -> Config {
        Config {
            root: Root::new(self.path("sys"), self.path("dev")),
            resource: "hpe.com/cxi".parse().unwrap(),
            sharing,
            plugin_directory: self.path("plugins"),
            pod_resources_socket: self.path("pod-resources/kubelet.sock"),
            own_pod: None,
            retry_handler: Expectation::Ignore,
            sources: Sources::default(),
            cdi_directory: None,
        }
    }

    /// Starts the plugin in this process.
    pub fn plugin(&self, sharing: Sharing) -> Plugin {
        Plugin::start(self.config(sharing), Some(Advertise::All))
    }
}

/// A plugin running in this process.
pub struct Plugin {
    pub advertise: watch::Sender<Option<Advertise>>,
    pub release: watch::Sender<Option<Release>>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), PluginError>>,
}

impl Plugin {
    pub fn start(config: Config, advertise: Option<Advertise>) -> Self {
        let (advertise, receiver) = watch::channel(advertise);
        let (release, loaded) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(plugin::run(config, receiver, loaded, shutdown.clone()));
        Self { advertise, release, shutdown, task }
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), PluginError> {
        timeout(SOON * 2, self.task).await.expect("the plugin ends").unwrap()
    }

    pub async fn withdraw(self) -> Result<(), PluginError> {
        self.shutdown.cancel();
        self.ended().await
    }
}

/// The kubelet's registration server.
pub struct Kubelet {
    directory: PathBuf,
    registrations: mpsc::UnboundedReceiver<RegisterRequest>,
    end: CancellationToken,
}

struct Registrar {
    sender: mpsc::UnboundedSender<RegisterRequest>,
    refusal: Option<String>,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let _ = self.sender.send(request.into_inner());
        match &self.refusal {
            Some(message) => Err(Status::unknown(message)),
            None => Ok(Response::new(Empty {})),
        }
    }
}

impl Kubelet {
    pub fn start(node: &Node) -> Self {
        Self::start_with(node, None)
    }

    /// A kubelet that refuses every registration.
    pub fn refusing(node: &Node, message: &str) -> Self {
        Self::start_with(node, Some(message.into()))
    }

    fn start_with(node: &Node, refusal: Option<String>) -> Self {
        let directory = node.path("plugins");
        let (sender, registrations) = mpsc::unbounded_channel();
        let end = CancellationToken::new();
        let listener = UnixListener::bind(directory.join("kubelet.sock")).unwrap();
        let serving = Server::builder()
            .add_service(RegistrationServer::new(Registrar { sender, refusal }))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end.clone().cancelled_owned());
        tokio::spawn(async move { serving.await.unwrap() });
        Self { directory, registrations, end }
    }

    /// Stops as a killed kubelet does: the socket's file stays.
    pub fn kill(self) {
        drop(self);
    }

    /// What a starting kubelet does first: it empties the directory.
    pub fn empty_directory(node: &Node) {
        for entry in fs::read_dir(node.path("plugins")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    /// Waits for a registration.
    pub async fn registered(&mut self) -> RegisterRequest {
        timeout(SOON, self.registrations.recv()).await.expect("the plugin registers").unwrap()
    }

    /// Whether a registration comes within a while.
    pub async fn is_left_alone(&mut self) -> bool {
        timeout(A_WHILE, self.registrations.recv()).await.is_err()
    }

    /// Waits for a registration, connects back and watches, as a kubelet does.
    pub async fn accept(&mut self) -> (DevicePluginClient<Channel>, Lists) {
        let request = self.registered().await;
        let mut client = connect(self.directory.join(request.endpoint)).await;
        let lists = Lists::watch(&mut client).await;
        (client, lists)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

pub async fn connect(socket: PathBuf) -> DevicePluginClient<Channel> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    DevicePluginClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

/// A `ListAndWatch` stream.
pub struct Lists(Streaming<ListAndWatchResponse>);

impl Lists {
    pub async fn watch(client: &mut DevicePluginClient<Channel>) -> Self {
        Self(client.list_and_watch(Empty {}).await.unwrap().into_inner())
    }

    /// The next list.
    pub async fn next(&mut self) -> Vec<Device> {
        timeout(PROMPT, self.0.message()).await.expect("a list comes").unwrap().expect("the stream is open").devices
    }

    /// Waits for a list in which exactly these ids are healthy.
    pub async fn until_healthy(&mut self, ids: &[&str]) -> Vec<Device> {
        let mut last = Vec::new();
        let waiting = async {
            loop {
                let devices = self.next().await;
                last = healthy(&devices).into_iter().map(str::to_owned).collect::<Vec<_>>();
                if last == ids {
                    return devices;
                }
            }
        };
        let result = timeout(PROMPT, waiting).await;
        result.unwrap_or_else(|_| panic!("healthy should be {ids:?}, are {last:?}"))
    }

    /// Whether no other list comes for a while.
    pub async fn is_quiet(&mut self) -> bool {
        timeout(A_WHILE, self.0.message()).await.is_err()
    }

    /// Waits for the end of the stream.
    pub async fn ended(&mut self) {
        while let Ok(Some(_)) = timeout(SOON, self.0.message()).await.expect("the stream ends") {}
    }
}

pub fn healthy(devices: &[Device]) -> Vec<&str> {
    devices.iter().filter(|device| device.health == "Healthy").map(|device| device.id.as_str()).collect()
}

/// What the kubelet says is allocated: an answer, or a refusal.
type Answer = Arc<Mutex<Result<Vec<PodResources>, Status>>>;

/// The kubelet's PodResources server.
pub struct FakePodResources {
    answer: Answer,
    end: CancellationToken,
}

struct Lister(Answer);

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(&self, _: Request<ListPodResourcesRequest>) -> Result<Response<ListPodResourcesResponse>, Status> {
        let pod_resources = self.0.lock().unwrap().clone()?;
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }
}

impl FakePodResources {
    /// Says that pod `pod` has these ids.
    pub fn start(node: &Node, pod: &str, ids: &[&str]) -> Self {
        let socket = node.path("pod-resources/kubelet.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).unwrap();
        let answer: Answer = Arc::new(Mutex::new(Ok(vec![])));
        let end = CancellationToken::new();
        let serving = Server::builder()
            .add_service(PodResourcesListerServer::new(Lister(Arc::clone(&answer))))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end.clone().cancelled_owned());
        tokio::spawn(async move { serving.await.unwrap() });
        let this = Self { answer, end };
        this.set(pod, ids);
        this
    }

    pub fn set(&self, pod: &str, ids: &[&str]) {
        let devices = ContainerDevices {
            resource_name: "hpe.com/cxi".into(),
            device_ids: ids.iter().map(ToString::to_string).collect(),
        };
        let container = ContainerResources { name: "c".into(), devices: vec![devices] };
        let pod = PodResources { name: pod.into(), namespace: "default".into(), containers: vec![container] };
        *self.answer.lock().unwrap() = Ok(vec![pod]);
    }

    pub fn set_empty(&self) {
        *self.answer.lock().unwrap() = Ok(vec![]);
    }

    pub fn fail(&self) {
        *self.answer.lock().unwrap() = Err(Status::internal("not now"));
    }
}

impl Drop for FakePodResources {
    fn drop(&mut self) {
        // Ends open connections too, as the end of a process does.
        self.end.cancel();
    }
}

/// Inode number of a file.
pub fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(path).unwrap())
}
