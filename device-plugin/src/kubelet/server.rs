//! Serves the plugin on its own unix socket.

use std::{
    io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UnixListener,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport;
use tracing::{info, warn};

use crate::{
    kubelet::{service::Service, socket_watch::Identity},
    kubelet_api::proto::v1beta1::device_plugin_server::DevicePluginServer,
    offer::Published,
};

/// How often the plugin looks whether its socket is still its own.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Calls under way get this long when the server stops. Allocate answers from memory.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// The plugin cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Something that is not a socket is in the way.
    #[error("{} is in the way: it is not a socket", .0.display())]
    InTheWay(PathBuf),
    /// The socket could not be made or looked at.
    #[error("{action} the socket {}", path.display())]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process made a socket of the same name; two plugins for one resource cannot both be right.
    #[error("another process took over the socket {}", .0.display())]
    TakenOver(PathBuf),
    /// The server ended by itself.
    #[error("the server ended")]
    Ended(#[source] Option<transport::Error>),
}

/// A running server.
pub struct Server {
    path: PathBuf,
    identity: Identity,
    streams: Arc<watch::Sender<usize>>,
    end: CancellationToken,
    task: JoinHandle<Result<(), transport::Error>>,
}

impl Server {
    /// Binds `path`, where a socket of an earlier run may be left, and serves `published` on it.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(path: &Path, published: watch::Receiver<Arc<Published>>) -> Result<Self, ServerError> {
        remove_old(path)?;
        let socket = |action| move |source| ServerError::Socket { action, path: path.into(), source };
        let listener = UnixListener::bind(path).map_err(socket("bind"))?;
        let identity = Identity::of(path)
            .map_err(socket("look at"))?
            .ok_or_else(|| socket("look at")(io::ErrorKind::NotFound.into()))?;
        let streams = Arc::new(watch::Sender::new(0));
        let end = CancellationToken::new();
        let service = Service::new(published, Arc::clone(&streams), end.clone());
        let serving = transport::Server::builder()
            .add_service(DevicePluginServer::new(service))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end.clone().cancelled_owned());
        Ok(Self { path: path.into(), identity, streams, end, task: tokio::spawn(serving) })
    }

    /// How many `ListAndWatch` streams are open.
    pub fn streams(&self) -> watch::Receiver<usize> {
        self.streams.subscribe()
    }

    /// Waits until the socket's file is gone, as after a start of the kubelet, which empties the directory.
    ///
    /// # Errors
    /// When another process took the path over, the server ended, or the file cannot be looked at.
    pub async fn socket_gone(&mut self) -> Result<(), ServerError> {
        loop {
            tokio::select! {
                result = &mut self.task => return Err(ServerError::Ended(result.ok().and_then(Result::err))),
                () = sleep(LOOK_PERIOD) => {}
            }
            match Identity::of(&self.path) {
                Ok(Some(identity)) if identity == self.identity => {}
                Ok(Some(_)) => return Err(ServerError::TakenOver(self.path.clone())),
                Ok(None) => return Ok(()),
                Err(source) => {
                    return Err(ServerError::Socket { action: "look at", path: self.path.clone(), source });
                }
            }
        }
    }

    /// Ends the streams, lets calls under way finish, and removes the socket if it is still this server's.
    pub async fn stop(mut self) {
        self.end.cancel();
        if !self.task.is_finished() && timeout(STOP_LIMIT, &mut self.task).await.is_err() {
            warn!(limit = ?STOP_LIMIT, "calls under way were cut off");
            self.task.abort();
        }
        if Identity::of(&self.path).is_ok_and(|found| found == Some(self.identity)) {
            match std::fs::remove_file(&self.path) {
                Ok(()) => info!(socket = %self.path.display(), "withdrawn"),
                Err(error) => warn!(socket = %self.path.display(), %error, "the socket could not be removed"),
            }
        }
    }
}

fn remove_old(path: &Path) -> Result<(), ServerError> {
    let failed = |action| move |source| ServerError::Socket { action, path: path.into(), source };
    match path.symlink_metadata() {
        Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path).map_err(failed("remove")),
        Ok(_) => Err(ServerError::InTheWay(path.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at")(error)),
    }
}
