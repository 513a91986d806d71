//! One session per start of the kubelet: bind, serve, register, until the kubelet is another one.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    kubelet::{
        registration::{RegistrationRefused, abandoned, register},
        server::{Server, ServerError},
        socket_watch::{Identity, SocketWatch},
    },
    kubelet_api::{proto::v1beta1::KUBELET_SOCKET, resource_name::ResourceName},
    offer::Published,
};

/// A moment between sessions, so that a fault that ends each at once does not keep a processor busy.
const SESSION_PAUSE: Duration = Duration::from_millis(200);

/// A kubelet that is started again makes its socket within a few seconds.
const KUBELET_LIMIT: Duration = Duration::from_mins(1);

/// The plugin cannot be offered to the kubelet.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The kubelet's directory cannot be looked at.
    #[error("look for the kubelet's socket in {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The plugin cannot be served.
    #[error("serve the device plugin")]
    Server(#[from] ServerError),
    /// The kubelet does not want the plugin.
    #[error(transparent)]
    Refused(#[from] RegistrationRefused),
}

/// Where and as what the plugin is offered.
#[derive(Clone, Debug)]
pub struct Site {
    /// The kubelet's device plugin directory.
    pub directory: PathBuf,
    /// The resource.
    pub resource: ResourceName,
}

enum End {
    Shutdown,
    Again(&'static str),
}

/// Offers `published` to every kubelet that comes, until `shutdown`; then withdraws and returns.
///
/// # Errors
/// When the plugin cannot be served or is refused.
pub async fn run(
    site: Site,
    published: watch::Receiver<Arc<Published>>,
    shutdown: CancellationToken,
) -> Result<(), SessionError> {
    let mut watch = SocketWatch::new(&site.directory);
    loop {
        let kubelet = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            kubelet = wait_for_kubelet(&mut watch, &site) => kubelet?,
        };
        let mut server = Server::start(&site.directory.join(site.resource.socket_name()), published.clone())?;
        let end = serve(&site, &mut watch, kubelet, &mut server, &shutdown).await;
        server.stop().await;
        match end? {
            End::Shutdown => return Ok(()),
            End::Again(reason) => info!(reason, "registering anew"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(SESSION_PAUSE) => {}
        }
    }
}

async fn wait_for_kubelet(watch: &mut SocketWatch, site: &Site) -> Result<Identity, SessionError> {
    let failed = |source| SessionError::Directory { directory: site.directory.clone(), source };
    let socket = site.directory.join(KUBELET_SOCKET);
    if Identity::of(&socket).map_err(failed)?.is_none() {
        info!(socket = %socket.display(), "waiting for the kubelet");
    }
    let mut watching = std::pin::pin!(watch.present(KUBELET_SOCKET));
    let kubelet = if let Ok(kubelet) = timeout(KUBELET_LIMIT, &mut watching).await {
        kubelet
    } else {
        warn!(
            socket = %socket.display(), waited = ?KUBELET_LIMIT,
            "there is no kubelet here; if its --root-dir is not /var/lib/kubelet, set devicePlugin.kubeletRoot (--device-plugin-dir)"
        );
        watching.await
    };
    kubelet.map_err(failed)
}

async fn serve(
    site: &Site,
    watch: &mut SocketWatch,
    kubelet: Identity,
    server: &mut Server,
    shutdown: &CancellationToken,
) -> Result<End, SessionError> {
    let streams = server.streams();
    let endpoint = site.resource.socket_name();
    let registered = async {
        register(&site.directory, &endpoint, &site.resource).await?;
        abandoned(streams).await;
        Ok::<_, RegistrationRefused>(())
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(End::Shutdown),
        renewed = watch.renewed(KUBELET_SOCKET, kubelet) => {
            renewed.map_err(|source| SessionError::Directory { directory: site.directory.clone(), source })?;
            Ok(End::Again("the kubelet's socket was removed or made anew"))
        }
        gone = server.socket_gone() => {
            gone?;
            Ok(End::Again("the plugin's socket was removed"))
        }
        done = registered => {
            done?;
            Ok(End::Again("the kubelet does not watch the devices"))
        }
    }
}
