//! HTTP: `/metrics` and `/healthz`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::exporter::negotiation::negotiate;
use crate::exporter::scraper::Scraper;
use crate::exporter::tls::Tls;
use crate::exporter::visitors::Visitors;

/// Connections at a time; more wait. Prometheus keeps one open.
const CONNECTIONS: usize = 64;
/// How long a connection may be silent: between two scrapes, or in the middle of a request. Prometheus connects again
/// without a word where it scrapes less often.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a connection may take for its first request, a TLS handshake included: who says nothing keeps a place.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// How long requests may go on after the end was asked for.
const GRACE: Duration = Duration::from_secs(3);
/// Pause after a connection could not be accepted, as when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves what `scraper` reads until `shutdown`.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, scraper: Scraper, shutdown: CancellationToken) {
    let scraper = Arc::new(scraper);
    let tls = tls.map(Arc::new);
    let followed = tls.clone().map(|tls| tokio::spawn(async move { tls.follow().await }));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let visitors = Visitors::default();
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(visit) = visitors.admit(peer.ip()) else {
            debug!(%peer, "too many connections from there");
            continue;
        };
        let (tls, watcher) = (tls.clone(), graceful.watcher());
        let visitor = Visitor { scraper: Arc::clone(&scraper), asked: CancellationToken::new() };
        tokio::spawn(async move {
            let _kept = (place, visit);
            let asked = visitor.asked.clone();
            let served = async {
                match tls {
                    None => connection(stream, visitor, watcher).await,
                    Some(tls) => match tls.acceptor().accept(stream).await {
                        Ok(stream) => connection(stream, visitor, watcher).await,
                        Err(error) => debug!("TLS handshake: {error}"),
                    },
                }
            };
            tokio::select! {
                () = served => {}
                () = silence(&asked) => debug!(%peer, "it asked for nothing"),
            }
        });
    }
    drop(listener);
    if let Some(followed) = followed {
        followed.abort();
    }
    if timeout(GRACE, graceful.shutdown()).await.is_err() {
        warn!("requests that did not end in time are cut off");
    }
}

/// One connection's part in what all have.
struct Visitor {
    scraper: Arc<Scraper>,
    /// Cancelled by its first request.
    asked: CancellationToken,
}

/// Comes back when nothing was asked for in time, and else never.
async fn silence(asked: &CancellationToken) {
    if timeout(FIRST_REQUEST, asked.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    visitor: Visitor,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = service_fn(move |request| {
        visitor.asked.cancel();
        let scraper = Arc::clone(&visitor.scraper);
        async move { Ok::<_, Infallible>(answer(&request, &scraper).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!("a connection broke: {error}");
    }
}

async fn answer<T>(request: &Request<T>, scraper: &Scraper) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get_all(ACCEPT).into_iter();
            let format = negotiate(accept.filter_map(|header| header.to_str().ok()));
            match scraper.scrape(format).await {
                Some(body) => respond(StatusCode::OK, format.content_type(), body),
                None => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the node could not be read in time; an earlier scrape may hang in the driver\n",
                ),
            }
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::exporter::collector::{Collector, STATISTICS_WAIT};
    use crate::exporter::selection::Selection;
    use crate::exporter::tree::Tree;

    #[tokio::test]
    async fn a_node_that_cannot_be_read_is_no_reason_to_restart() {
        let tree = Tree::new();
        tree.add("cxi0", "0000:c1:00.0");
        fs::create_dir(tree.path("sys/devices/0000:c1:00.0/telemetry")).unwrap();
        let pipe = tree.path("sys/devices/0000:c1:00.0/telemetry/hni_rx_jabber");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let collector = Collector::new(tree.root(), "n1".into(), Selection::default(), STATISTICS_WAIT).unwrap();
        let scraper = Scraper::new(collector, Duration::ZERO).with_limit(Duration::from_millis(20));
        let asked = async |path| answer(&Request::get(path).body(()).unwrap(), &scraper).await.status();
        assert_eq!(asked("/metrics").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(asked("/healthz").await, StatusCode::OK);
        fs::write(&pipe, "1@1.000000000\n").unwrap();
    }
}
