//! Holds the plugin's tasks together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cxi_api::Advertise;
use cxi_hardware::Root;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::device_id::Sharing;
use crate::gate::{self, AdvertiseLost};
use crate::inventory::Inventory;
use crate::offer::{Gate, Published};
use crate::pod_resources::{PodName, PodResourcesLister};
use crate::resource_name::ResourceName;
use crate::scanner::{self, ScannerError};
use crate::session::{self, SessionError, Site};

/// How long the first registration waits to learn what this node is to advertise. When the API server is away for
/// longer, holders that need their NICs offered (see [`Gate::InUse`]) matter more than restraint: nothing new is
/// scheduled without an API server.
const FIRST_GATE: Duration = Duration::from_secs(10);

/// What a plugin is made for.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the node is read.
    pub root: Root,
    /// The resource that is offered.
    pub resource: ResourceName,
    /// Ids per NIC.
    pub sharing: Sharing,
    /// The kubelet's device plugin directory.
    pub plugin_directory: PathBuf,
    /// The kubelet's PodResources socket.
    pub pod_resources_socket: PathBuf,
    /// The pod that this process runs in, if it runs in one.
    pub own_pod: Option<PodName>,
}

/// The plugin cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The node cannot be scanned.
    #[error(transparent)]
    Scanner(#[from] ScannerError),
    /// Nobody says what to advertise.
    #[error(transparent)]
    Advertise(#[from] AdvertiseLost),
    /// The kubelet cannot be served.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A task panicked.
    #[error("a task of the plugin was lost")]
    Lost(#[from] JoinError),
    /// A task ended although nobody asked it to.
    #[error("a task of the plugin ended before its time")]
    Ended,
}

/// Offers the node's NICs to the kubelet until `shutdown`, then withdraws them and returns. `advertise` is `None` as
/// long as it is not known.
///
/// # Errors
/// When a task is lost or cannot go on; the plugin is withdrawn then too.
pub async fn run(
    config: Config,
    advertise: watch::Receiver<Option<Advertise>>,
    shutdown: CancellationToken,
) -> Result<(), PluginError> {
    let first = scanner::first(&config.root).await?;
    let (inventory_sender, inventory) = watch::channel(first);
    let (gate_sender, mut gate) = watch::channel(None);
    let lister = PodResourcesLister::new(&config.pod_resources_socket, config.resource.clone(), config.own_pod);

    let mut tasks = JoinSet::<Result<(), PluginError>>::new();
    let root = config.root;
    tasks.spawn(async move { Ok(scanner::run(root, inventory_sender).await?) });
    tasks.spawn(async move { Ok(gate::run(advertise, lister, gate_sender).await?) });

    let decided = tokio::select! {
        decided = timeout(FIRST_GATE, gate.wait_for(Option::is_some)) => decided.is_ok(),
        () = shutdown.cancelled() => return Ok(()),
    };
    if !decided {
        warn!(waited = ?FIRST_GATE, "what this node is to advertise is not known; offering every healthy NIC until it is");
    }
    let (published_sender, published) = watch::channel(Arc::new(publish(&inventory, &gate, config.sharing)));
    tasks.spawn(keep_published(inventory, gate, config.sharing, published_sender));

    let site = Site { directory: config.plugin_directory, resource: config.resource };
    // A token of its own: the loss of another task withdraws the plugin too.
    let withdraw = shutdown.child_token();
    // This function's own receiver keeps the other tasks going until the session is over.
    let mut session = tokio::spawn(session::run(site, published.clone(), withdraw.clone()));
    tokio::select! {
        result = &mut session => Ok(result??),
        ended = tasks.join_next() => {
            withdraw.cancel();
            let withdrawn = session.await;
            match ended {
                Some(result) => result??,
                None => return Err(PluginError::Ended),
            }
            withdrawn??;
            Err(PluginError::Ended)
        }
    }
}

fn publish(
    inventory: &watch::Receiver<Inventory>,
    gate: &watch::Receiver<Option<Gate>>,
    sharing: Sharing,
) -> Published {
    let gate = gate.borrow().clone().unwrap_or(Gate::Open);
    Published { inventory: inventory.borrow().clone(), sharing, gate }
}

async fn keep_published(
    mut inventory: watch::Receiver<Inventory>,
    mut gate: watch::Receiver<Option<Gate>>,
    sharing: Sharing,
    published: watch::Sender<Arc<Published>>,
) -> Result<(), PluginError> {
    loop {
        inventory.mark_unchanged();
        gate.mark_unchanged();
        let next = publish(&inventory, &gate, sharing);
        published.send_if_modified(|current| {
            let changed = **current != next;
            if changed {
                *current = Arc::new(next);
            }
            changed
        });
        tokio::select! {
            changed = inventory.changed() => changed.map_err(|_| PluginError::Ended)?,
            changed = gate.changed() => changed.map_err(|_| PluginError::Ended)?,
            () = published.closed() => return Ok(()),
        }
    }
}
