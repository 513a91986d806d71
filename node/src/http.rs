//! The HTTP server of all programs that have one: health and metrics, for a kubelet and a Prometheus. Any pod in the
//! cluster may be able to connect, and must not be able to fill the memory or to keep out those two.

mod places;

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{AddrParseError, IpAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::TokioIo,
    server::graceful::{GracefulShutdown, Watcher},
};
use places::{Places, Visit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a connection may be silent: between two scrapes, in the middle of a request, or without reading its answer.
/// Prometheus connects again without a word where it scrapes less often.
const CONNECTION_SILENCE: Duration = Duration::from_secs(30);

/// How long a connection may take for its first request, a TLS handshake included.
const FIRST_REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Longest answer. What takes longer is cut off.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Size of a request without its body, in bytes; hyper takes up to 100 headers.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// How long requests may go on after the end was asked for.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Pause after a connection could not be accepted, as when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection goes through before HTTP.
pub trait Door: Clone + Send + Sync + 'static {
    /// What HTTP is spoken over.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens it.
    ///
    /// # Errors
    /// When the client does not do its part.
    fn open(&self, stream: TcpStream) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Plain HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Door for Plain {
    type Stream = TcpStream;

    async fn open(&self, stream: TcpStream) -> io::Result<TcpStream> {
        Ok(stream)
    }
}

/// Addresses of the node that a program runs on, with a comma between them, as the kubelet hands over a pod's `status.hostIPs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeIps(Vec<IpAddr>);

impl FromStr for NodeIps {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let addresses = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        addresses
            .map(|one| one.parse().map(|address: IpAddr| address.to_canonical()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl NodeIps {
    /// Whether an address is the node's own, from which its kubelet may probe; that of the loopback always is.
    pub fn contain(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        from.is_loopback() || self.0.contains(&from)
    }
}

/// Answers `GET` and `HEAD` by `handler` until `shutdown`. Connections that are of the node have places of their own.
pub async fn serve<D, H, A>(
    listener: TcpListener,
    door: D,
    of_node: impl Fn(IpAddr) -> bool,
    handler: H,
    shutdown: CancellationToken,
) where
    D: Door,
    H: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let places = Places::default();
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(visit) = places.admit(peer.ip(), of_node(peer.ip())) else {
            debug!(%peer, "too many connections");
            continue;
        };
        let (door, handler, watcher) = (door.clone(), Arc::clone(&handler), graceful.watcher());
        tokio::spawn(async move {
            let visit = Arc::new(visit);
            let asked = CancellationToken::new();
            let served = async {
                match door.open(stream).await {
                    Ok(stream) => connection(stream, handler, Arc::clone(&visit), asked.clone(), watcher).await,
                    Err(error) => debug!(%peer, "it did not get as far as HTTP: {error}"),
                }
            };
            tokio::select! {
                () = served => {}
                () = visit.replaced() => debug!(%peer, "another has its place"),
                () = overdue(&visit, &asked) => debug!(%peer, "it took too long"),
            }
        });
    }
    drop(listener);
    if timeout(STOP_GRACE, graceful.shutdown()).await.is_err() {
        warn!("requests that did not end in time are cut off");
    }
}

/// Comes back when a connection has been silent, or an answer has taken, for too long.
async fn overdue(visit: &Visit, asked: &CancellationToken) {
    if timeout(FIRST_REQUEST_LIMIT, asked.cancelled()).await.is_err() {
        return;
    }
    let mut answering = None;
    loop {
        let now = Instant::now();
        let until = match visit.waits_since() {
            Some(since) => {
                answering = None;
                since + CONNECTION_SILENCE
            }
            None => *answering.get_or_insert(now) + ANSWER_LIMIT,
        };
        if until <= now {
            return;
        }
        sleep_until(until.min(now + FIRST_REQUEST_LIMIT)).await;
    }
}

async fn connection<H, A>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Arc<H>,
    visit: Arc<Visit>,
    asked: CancellationToken,
    watcher: Watcher,
) where
    H: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let service = service_fn(move |request| {
        asked.cancel();
        visit.begin();
        let (handler, visit) = (Arc::clone(&handler), Arc::clone(&visit));
        async move {
            let response = answer(request, &*handler).await;
            visit.end();
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new().max_buf_size(MAX_HEAD_BYTES).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!("a connection broke: {error}");
    }
}

async fn answer<H, A>(request: Request<Incoming>, handler: &H) -> Response<Full<Bytes>>
where
    H: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<Full<Bytes>>>,
{
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    handler(request).await
}

/// An answer for people.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

/// An answer.
pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
