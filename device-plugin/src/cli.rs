//! The command line, and the plugin that it asks for.

use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use cxi_api::Advertise;
use cxi_hardware::Root;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::advertise;
use crate::device_id::Sharing;
use crate::log::Format;
use crate::plugin::{self, Config};
use crate::pod_resources::PodName;
use crate::resource_name::ResourceName;

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

    /// Where the host's /sys is.
    #[arg(long, env = "SYSFS_ROOT", default_value = "/sys")]
    sysfs_root: PathBuf,

    /// Where the host's /dev is.
    #[arg(long, env = "DEVFS_ROOT", default_value = "/dev")]
    devfs_root: PathBuf,

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

/// The kubelet's checkpoint and every list carry each id; more than this per NIC is a typing error.
const MAX_CAPACITY: u32 = 10_000;

fn capacity(text: &str) -> Result<NonZeroU32, String> {
    text.parse::<NonZeroU32>()
        .ok()
        .filter(|capacity| capacity.get() <= MAX_CAPACITY)
        .ok_or_else(|| format!("must be a number from 1 to {MAX_CAPACITY}"))
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
        let shutdown = CancellationToken::new();
        tokio::spawn(stop_on_signal(
            signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            shutdown.clone(),
        ));
        let node = self.node_name.clone().filter(|_| !self.standalone);
        let config = self.into_config();
        info!(resource = %config.resource, sharing = ?config.sharing, node, "starting");
        let Some(node) = node else {
            let (_advertise, receiver) = watch::channel(Some(Advertise::All));
            return Ok(plugin::run(config, receiver, shutdown).await?);
        };
        let client = kube::Client::try_default().await.context("find the API server")?;
        let (advertise, receiver) = watch::channel(None);
        let watching = advertise::run(client, node, advertise);
        let (plugin, ()) = tokio::join!(plugin::run(config, receiver, shutdown), watching);
        Ok(plugin?)
    }

    fn into_config(self) -> Config {
        let sharing = match self.sharing_mode {
            SharingMode::Shared => Sharing::Shared { capacity: self.shared_capacity },
            SharingMode::Exclusive => Sharing::Exclusive,
        };
        let own_pod = self.pod_name.zip(self.pod_namespace);
        Config {
            root: Root::new(self.sysfs_root, self.devfs_root),
            resource: self.resource_name,
            sharing,
            plugin_directory: self.device_plugin_dir,
            pod_resources_socket: self.pod_resources_socket,
            own_pod: own_pod.map(|(name, namespace)| PodName { namespace, name }),
        }
    }
}

async fn stop_on_signal(mut terminate: Signal, mut interrupt: Signal, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if shutdown.is_cancelled() {
            warn!("second signal: ending at once");
            std::process::exit(1);
        }
        info!("signal received: withdrawing");
        shutdown.cancel();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

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
        ] {
            let error = parse(flags).unwrap_err().to_string();
            assert!(error.contains(said), "{flags}: {error}");
        }
    }
}
