//! `/healthz`, `/readyz` and `/metrics`.

use std::{io, net::SocketAddr};

use cxi_node::http::{NodeIps, Plain, respond, text};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{health::Health, metrics::Metrics};

/// Content type of `OpenMetrics` text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {0}")]
pub struct Error(SocketAddr, #[source] io::Error);

/// Opens the address.
///
/// # Errors
/// When it cannot be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| Error(address, error))
}

/// Serves until `stop`. From `node_ips` the kubelet probes.
pub async fn serve(
    listener: TcpListener,
    node_ips: NodeIps,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let handler = move |request: Request<Incoming>| {
        let response = answer(request.uri().path(), &health, &metrics);
        async move { response }
    };
    cxi_node::http::serve(listener, Plain, move |from| node_ips.contain(from), handler, stop).await;
}

fn answer(path: &str, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    match path {
        "/healthz" => alive(health),
        "/readyz" => is_ready(health),
        "/metrics" => respond(StatusCode::OK, OPEN_METRICS, metrics.text()),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn alive(health: &Health) -> Response<Full<Bytes>> {
    match health.stuck().as_slice() {
        [] => text(StatusCode::OK, "ok\n"),
        stuck => text(StatusCode::SERVICE_UNAVAILABLE, format!("no sign of life: {}\n", stuck.join(", "))),
    }
}

fn is_ready(health: &Health) -> Response<Full<Bytes>> {
    if health.ready() {
        text(StatusCode::OK, "ok\n")
    } else {
        let why = "the cluster has not been read yet, or the policy for agents not applied\n";
        text(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}
