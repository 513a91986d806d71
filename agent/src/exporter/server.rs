//! What is served: `/metrics` and `/healthz`.

use std::{io, sync::Arc};

use cxi_node::http::{self, Door, NodeIps, Plain, respond, text};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::ACCEPT,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::exporter::{negotiation::negotiate, scraper::Scraper, tls::Tls};

/// Serves what `scraper` reads until `shutdown`. From `node_ips` the kubelet probes.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    node_ips: NodeIps,
    scraper: Scraper,
    shutdown: CancellationToken,
) {
    let scraper = Arc::new(scraper);
    let handler = move |request: Request<Incoming>| {
        let scraper = Arc::clone(&scraper);
        async move { answer(&request, &scraper).await }
    };
    let of_node = move |from| node_ips.contain(from);
    match tls.map(Arc::new) {
        None => http::serve(listener, Plain, of_node, handler, shutdown).await,
        Some(tls) => {
            let followed = Arc::clone(&tls);
            let followed = tokio::spawn(async move { followed.follow().await });
            http::serve(listener, Encrypted(tls), of_node, handler, shutdown).await;
            followed.abort();
        }
    }
}

/// HTTPS.
#[derive(Clone)]
struct Encrypted(Arc<Tls>);

impl Door for Encrypted {
    type Stream = TlsStream<TcpStream>;

    async fn open(&self, stream: TcpStream) -> io::Result<Self::Stream> {
        self.0.acceptor().accept(stream).await
    }
}

async fn answer<T>(request: &Request<T>, scraper: &Scraper) -> Response<Full<Bytes>> {
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

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use cxi_hardware_lab::Tree;

    use super::*;
    use crate::exporter::{
        collector::{Collector, STATISTICS_WAIT},
        selection::Selection,
    };

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
