//! `/healthz`, `/readyz` and `/metrics`.

use std::{future::Future, io, net::SocketAddr};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::{health::Health, metrics::Metrics};

/// Content type of `OpenMetrics` text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// Serving failed.
    #[error("the health and metrics server failed")]
    Serve(#[source] io::Error),
}

/// Opens the address.
///
/// # Errors
/// When it cannot be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| Error::Listen(address, error))
}

/// Serves until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let ready = health.clone();
    let routes = Router::new()
        .route("/healthz", get(move || async move { alive(&health) }))
        .route("/readyz", get(move || async move { is_ready(&ready) }))
        .route("/metrics", get(move || async move { ([(CONTENT_TYPE, OPEN_METRICS)], metrics.text()) }));
    axum::serve(listener, routes).with_graceful_shutdown(stop).await.map_err(Error::Serve)
}

fn alive(health: &Health) -> impl IntoResponse + use<> {
    match health.stuck().as_slice() {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        stuck => (StatusCode::SERVICE_UNAVAILABLE, format!("no sign of life: {}\n", stuck.join(", "))),
    }
}

fn is_ready(health: &Health) -> impl IntoResponse + use<> {
    if health.ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the cluster has not been read yet, or the policy for agents not applied\n")
    }
}
