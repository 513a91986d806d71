//! The command line, and the plugin that it asks for.

use std::{num::NonZeroU32, path::PathBuf};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use cxi_api::{Advertise, plugin_rules::MAX_SHARED_CAPACITY};
use cxi_hardware::retry_handler::Expectation;
use cxi_injection::{Bind, host_args::HostArgs, provision::Sources};
use cxi_node::log::Format;
use tokio::sync::watch;
use tracing::info;

use crate::{
    kubelet_api::{device_id::Sharing, pod_resources::PodName, resource_name::ResourceName},
    offer::cxinode,
    plugin::{self, Config},
};

/// Offers the CXI NICs of this node to the kubelet.
#[derive(Debug, Parser)]
#[command(name = "cxi-device-plugin", version)]
pub struct Args {
    /// Node whose CXINode says what to advertise.
    #[arg(long, env = "NODE_NAME", required_unless_present = "standalone")]
    node_name: Option<String>,

    /// Work without an API server and always advertise every healthy NIC.
    #[arg(long)]
    standalone: bool,

    /// Extended resource that pods request.
    #[arg(long, env = "CXI_RESOURCE_NAME", default_value = cxi_api::names::DEFAULT_RESOURCE)]
    resource_name: ResourceName,

    /// Whether several pods may have one NIC.
    #[arg(long, env = "CXI_SHARING_MODE", value_enum, default_value_t = SharingMode::Shared)]
    sharing_mode: SharingMode,

    /// Pods per NIC when NICs are shared.
    #[arg(long, env = "CXI_SHARED_CAPACITY", default_value = "100", value_parser = capacity)]
    shared_capacity: NonZeroU32,

    /// The kubelet's device plugin directory.
    #[arg(long, env = "KUBELET_DEVICE_PLUGIN_DIR", default_value = "/var/lib/kubelet/device-plugins")]
    device_plugin_dir: PathBuf,

    /// The kubelet's PodResources socket.
    #[arg(long, env = "KUBELET_POD_RESOURCES_SOCKET", default_value = "/var/lib/kubelet/pod-resources/kubelet.sock")]
    pod_resources_socket: PathBuf,

    /// Name of the pod that this runs in: a kubelet that does not list it does not know its pods yet, and is not
    /// believed when it is asked what is allocated.
    #[arg(long, env = "POD_NAME", requires = "pod_namespace")]
    pod_name: Option<String>,

    /// Namespace of that pod.
    #[arg(long, env = "POD_NAMESPACE")]
    pod_namespace: Option<String>,

    /// Tell the container runtime by CDI what belongs to a NIC. The device nodes are given in plain too, so that a
    /// runtime without CDI starts no container without its NIC.
    #[arg(long, env = "CXI_CDI")]
    cdi: bool,

    /// Directory for the CDI file: one that the runtime reads, on the host.
    #[arg(long, env = "CXI_CDI_DIR", default_value = "/var/run/cdi")]
    cdi_dir: PathBuf,

    #[command(flatten)]
    host: HostArgs,

    /// File or directory of the host that every container with a NIC gets, HOST[:CONTAINER[:ro|rw]]; read-only if not
    /// said. Several with commas.
    #[arg(long = "extra-mount", env = "CXI_EXTRA_MOUNTS", value_delimiter = ',', value_name = "HOST[:CONTAINER]")]
    extra_mounts: Vec<Bind>,

    /// What is expected of the NICs' retry handlers; a NIC without what is expected is unhealthy.
    #[arg(long, env = "CXI_RETRY_HANDLER", value_enum, default_value_t = Expectation::Ignore)]
    retry_handler: Expectation,

    /// Form of the log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = Format::Json)]
    log_format: Format,
}

/// Whether several pods may have one NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SharingMode {
    /// Up to the shared capacity.
    Shared,
    /// One pod per NIC.
    Exclusive,
}

fn capacity(text: &str) -> Result<NonZeroU32, String> {
    text.parse::<NonZeroU32>()
        .ok()
        .filter(|capacity| capacity.get() <= MAX_SHARED_CAPACITY)
        .ok_or_else(|| format!("must be a number from 1 to {MAX_SHARED_CAPACITY}"))
}

impl Args {
    /// Form of the log lines.
    pub fn log_format(&self) -> Format {
        self.log_format
    }

    /// Runs the plugin until SIGTERM or SIGINT; a second signal ends the process at once.
    ///
    /// # Errors
    /// When the plugin cannot start or go on.
    pub async fn run(self) -> anyhow::Result<()> {
        let shutdown = cxi_node::stop_signal().context("listen for signals")?;
        let node = self.node_name.clone().filter(|_| !self.standalone);
        let config = self.into_config();
        config.sources.check()?;
        info!(resource = %config.resource, sharing = ?config.sharing, node, "starting");
        let (release, loaded) = watch::channel(None);
        let Some(node) = node else {
            let (_advertise, receiver) = watch::channel(Some(Advertise::All));
            return Ok(plugin::run(config, receiver, loaded, shutdown).await?);
        };
        let client = kube::Client::try_default().await.context("find the API server")?;
        let (advertise, receiver) = watch::channel(None);
        let watching = cxinode::run(client, node, advertise, release);
        let (plugin, ()) = tokio::join!(plugin::run(config, receiver, loaded, shutdown), watching);
        Ok(plugin?)
    }

    /// The plugin that is asked for.
    pub fn into_config(self) -> Config {
        let sharing = match self.sharing_mode {
            SharingMode::Shared => Sharing::Shared { capacity: self.shared_capacity },
            SharingMode::Exclusive => Sharing::Exclusive,
        };
        let own_pod = self.pod_name.zip(self.pod_namespace);
        let sources = Sources { extra_mounts: self.extra_mounts, ..self.host.sources() };
        Config {
            root: self.host.root(),
            resource: self.resource_name,
            sharing,
            plugin_directory: self.device_plugin_dir,
            pod_resources_socket: self.pod_resources_socket,
            own_pod: own_pod.map(|(name, namespace)| PodName { namespace, name }),
            retry_handler: self.retry_handler,
            sources,
            cdi_directory: self.cdi.then_some(self.cdi_dir),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use cxi_hardware::Root;

    use super::*;

    fn parse(flags: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("cxi-device-plugin").chain(flags.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_a_node() {
        let config = parse("--node-name n").unwrap().into_config();
        assert_eq!(config.root, Root::default());
        assert_eq!(config.resource.as_str(), "hpe.com/cxi");
        assert_eq!(config.sharing, Sharing::Shared { capacity: NonZeroU32::new(100).unwrap() });
        assert_eq!(config.own_pod, None);
        assert_eq!((config.cdi_directory, config.retry_handler), (None, Expectation::Ignore));
    }

    #[test]
    fn what_comes_with_a_nic() {
        let flags = "--node-name n --cdi --extra-mount /opt/a,/opt/b:/b:rw --extra-device xpmem --host-root /host \
            --devfs-root /host/dev --cxi-root /opt/cxi/{version}/lib64:/usr/lib64 --driver-version 13.1.0 --retry-handler stay";
        let config = parse(flags).unwrap().into_config();
        assert_eq!(config.cdi_directory, Some("/var/run/cdi".into()));
        assert_eq!(config.retry_handler, Expectation::Stay);
        let mounts: Vec<_> = config.sources.extra_mounts.iter().map(|bind| bind.container.as_str()).collect();
        assert_eq!(mounts, ["/opt/a", "/b"]);
        assert_eq!(config.sources.dev_on_host(), PathBuf::from("/dev"));
        let places = config.sources.libraries.unwrap().cxi;
        let directory =
            |place: &cxi_injection::libraries::Place| place.directory(config.sources.release.as_ref()).unwrap();
        let directories: Vec<_> = places.iter().map(directory).collect();
        assert_eq!(directories, ["/opt/cxi/13.1.0/lib64", "/usr/lib64"].map(PathBuf::from));
    }

    #[test]
    fn rejects_what_cannot_work() {
        for (flags, said) in [
            ("", "--node-name"),
            ("--standalone --resource-name cxi", "hpe.com/cxi"),
            ("--standalone --shared-capacity 0", "1 to 10000"),
            ("--standalone --shared-capacity 10001", "1 to 10000"),
            ("--standalone --sharing-mode both", "exclusive"),
            ("--standalone --pod-name p", "--pod-namespace"),
            ("--standalone --extra-mount opt", "absolute path"),
            ("--standalone --extra-mount /opt:/a:x", "HOST:CONTAINER"),
            ("--standalone --cxi-root /opt/{release}", "{version}"),
            ("--standalone --driver-version ../13", "13.1.0"),
            ("--standalone --retry-handler maybe", "attached"),
        ] {
            let error = parse(flags).unwrap_err().to_string();
            assert!(error.contains(said), "{flags}: {error}");
        }
    }
}
