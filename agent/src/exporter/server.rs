//! HTTP: `/metrics` and `/healthz`.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
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

use crate::exporter::collector::Collector;
use crate::exporter::exposition::Format;
use crate::exporter::negotiation::negotiate;
use crate::exporter::tls::Tls;

/// Connections at a time; more wait. Prometheus keeps one open.
const CONNECTIONS: usize = 64;
/// How long a connection may be silent: between two scrapes, or in the middle of a request. Prometheus connects again
/// without a word where it scrapes less often.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a scrape may take, waiting for others included: the time that Prometheus gives it unless told otherwise.
const SCRAPE: Duration = Duration::from_secs(10);
/// How long requests may go on after the end was asked for.
const GRACE: Duration = Duration::from_secs(3);
/// Pause after a connection could not be accepted, as when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves what `collector` reads until `shutdown`.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, collector: Collector, shutdown: CancellationToken) {
    let scraper = Arc::new(Scraper::new(collector, SCRAPE));
    let tls = tls.map(Arc::new);
    let followed = tls.clone().map(|tls| tokio::spawn(async move { tls.follow().await }));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
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
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, scraper, watcher) = (tls.clone(), Arc::clone(&scraper), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            match tls {
                None => connection(stream, scraper, watcher).await,
                Some(tls) => match timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, scraper, watcher).await,
                    Ok(Err(error)) => debug!("TLS handshake: {error}"),
                    Err(_) => debug!("the TLS handshake took too long"),
                },
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

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    scraper: Arc<Scraper>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = service_fn(move |request| {
        let scraper = Arc::clone(&scraper);
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
                Some(body) => respond(StatusCode::OK, format.content_type(), body.into()),
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

/// One scrape at a time. One that hangs keeps its turn, so that there are never two.
struct Scraper {
    collector: Arc<Mutex<Collector>>,
    turn: Arc<Semaphore>,
    limit: Duration,
}

impl Scraper {
    fn new(collector: Collector, limit: Duration) -> Self {
        Self { collector: Arc::new(Mutex::new(collector)), turn: Arc::new(Semaphore::new(1)), limit }
    }

    /// The node in this format; `None` when it took too long.
    async fn scrape(&self, format: Format) -> Option<String> {
        let scrape = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
            let collector = Arc::clone(&self.collector);
            let read = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let exposition = collector.lock().unwrap_or_else(PoisonError::into_inner).collect();
                exposition.text(format)
            });
            read.await.inspect_err(|error| warn!("a scrape was lost: {error}")).ok()
        };
        timeout(self.limit, scrape).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::exporter::collector::STATISTICS_WAIT;
    use crate::exporter::selection::Selection;
    use crate::exporter::tree::Tree;

    #[tokio::test]
    async fn a_driver_that_hangs_costs_an_answer_and_one_thread() {
        let tree = Tree::new();
        tree.add("cxi0", "0000:c1:00.0");
        fs::create_dir(tree.path("sys/devices/0000:c1:00.0/telemetry")).unwrap();
        // A named pipe without a writer: opening it takes for ever.
        let pipe = tree.path("sys/devices/0000:c1:00.0/telemetry/hni_rx_jabber");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let collector = Collector::new(tree.root(), "n1".into(), Selection::default(), STATISTICS_WAIT).unwrap();
        let scraper = Scraper::new(collector, Duration::from_millis(20));
        let metrics = async || answer(&Request::get("/metrics").body(()).unwrap(), &scraper).await.status();
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();

        assert_eq!(metrics().await, StatusCode::SERVICE_UNAVAILABLE);
        let before = threads();
        for _ in 0..40 {
            assert_eq!(metrics().await, StatusCode::SERVICE_UNAVAILABLE);
        }
        // The tests beside this one have some of their own.
        assert!(threads() < before + 20, "{} threads after {before}", threads());
        let healthy = answer(&Request::get("/healthz").body(()).unwrap(), &scraper).await;
        assert_eq!(healthy.status(), StatusCode::OK, "restarting would not help");

        // The driver answers again.
        fs::write(&pipe, "1@1.000000000\n").unwrap();
        fs::remove_file(&pipe).unwrap();
        let scraper = Scraper { limit: Duration::from_secs(30), ..scraper };
        let answered = answer(&Request::get("/metrics").body(()).unwrap(), &scraper).await;
        assert_eq!(answered.status(), StatusCode::OK);
    }
}
