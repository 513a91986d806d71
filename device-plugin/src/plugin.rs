//! Holds the plugin's tasks together.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cxi_api::Advertise;
use cxi_hardware::{Root, retry_handler::Expectation};
use cxi_injection::{
    cdi::{Destination, FileError, Format, PLUGIN_KIND},
    libraries::Release,
    provision::Sources,
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    access::{self, AccessError},
    kubelet::session::{self, SessionError, Site},
    kubelet_api::{
        device_id::Sharing,
        pod_resources::{PodName, PodResourcesLister},
        resource_name::ResourceName,
    },
    nics::scanner::{self, ScannerError},
    offer::{
        gate::{self, AdvertiseLost},
        provision,
        publisher::{Publisher, PublisherError},
    },
};

/// How long the first registration waits to learn what this node is to advertise. When the API server is away for
/// longer, holders that need their NICs offered (see [`Gate::InUse`](crate::offer::Gate::InUse)) matter more than restraint: nothing new is
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
    /// Whether NICs have a retry handler that must not end.
    pub retry_handler: Expectation,
    /// What a container gets besides its NICs.
    pub sources: Sources,
    /// Where to tell the runtime what belongs to a NIC; without it containers are given everything in plain.
    pub cdi_directory: Option<PathBuf>,
}

/// The plugin cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The process lacks something that it needs.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The CDI directory cannot be used.
    #[error(
        "CDI files cannot be written; mount the host's directory there, writable, or switch CDI off (CXI_CDI=false)"
    )]
    Cdi(#[from] FileError),
    /// The node cannot be scanned.
    #[error(transparent)]
    Scanner(#[from] ScannerError),
    /// The task that says what to advertise has ended.
    #[error(transparent)]
    Advertise(#[from] AdvertiseLost),
    /// The kubelet cannot be served.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// What is published cannot be put together.
    #[error(transparent)]
    Publisher(#[from] PublisherError),
    /// A task panicked.
    #[error("a task of the plugin was lost")]
    Lost(#[from] JoinError),
    /// A task ended unasked.
    #[error("a task of the plugin ended before its time")]
    Ended,
}

/// Offers the node's NICs to the kubelet until `shutdown`, then withdraws them and returns. `advertise` is `None` as
/// long as it is not known; `release`, that of the loaded driver, is known by then, or is not known at all.
///
/// # Errors
/// When a task is lost or cannot go on; the plugin is withdrawn then too.
pub async fn run(
    config: Config,
    advertise: watch::Receiver<Option<Advertise>>,
    mut release: watch::Receiver<Option<Release>>,
    shutdown: CancellationToken,
) -> Result<(), PluginError> {
    access::plugins(&config.plugin_directory)?;
    access::node(&config.root)?;
    let cdi = config.cdi_directory.map(|directory| Destination::new(directory, PLUGIN_KIND, Format::Json));
    if let Some(cdi) = &cdi {
        cdi.prepare()?;
    }
    let first = scanner::first(&config.root, config.retry_handler).await?;
    let (inventory_sender, inventory) = watch::channel(first);
    let (gate_sender, mut gate) = watch::channel(None);
    let lister = PodResourcesLister::new(&config.pod_resources_socket, config.resource.clone(), config.own_pod);

    let mut tasks = JoinSet::<Result<(), PluginError>>::new();
    let (root, expectation, mut sources) = (config.root, config.retry_handler, config.sources);
    tasks.spawn(async move { Ok(scanner::run(root, expectation, inventory_sender).await?) });
    tasks.spawn(async move { Ok(gate::run(advertise, lister, gate_sender).await?) });

    let decided = tokio::select! {
        decided = timeout(FIRST_GATE, gate.wait_for(Option::is_some)) => decided.is_ok(),
        () = shutdown.cancelled() => return Ok(()),
    };
    if !decided {
        warn!(waited = ?FIRST_GATE, "what this node is to advertise is not known; offering every healthy NIC until it is");
    }
    if let Some(release) = &*release.borrow_and_update() {
        sources.release = Some(release.clone());
    }
    let (provision, told) = provision::first(&sources).await?;
    let (provision_sender, provision) = watch::channel(provision);
    tasks.spawn(async move { Ok(provision::run(sources, told, release, provision_sender).await?) });
    let mut keeper = Publisher { inventory, gate, provision, sharing: config.sharing, cdi };
    let (published_sender, published) = watch::channel(Arc::new(keeper.published().await?));
    tasks.spawn(async move { Ok(keeper.run(published_sender).await?) });

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
