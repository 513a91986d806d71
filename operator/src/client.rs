//! The client of the API server: without retries of its own, and counted.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{Method, Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{Layer, Service};

use crate::metrics::Metrics;

/// The client for everything.
///
/// kube's own retries are off: they sit on a 429 for minutes, and an eviction that a PodDisruptionBudget forbids is one.
/// Watches and actions back off by themselves.
///
/// # Errors
/// When the configuration cannot be used.
pub fn build(mut config: Config, metrics: &Metrics) -> Result<Client, kube::Error> {
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?.with_layer(&Count(metrics.clone())).build())
}

/// The same with a fault in one of its writes.
///
/// # Errors
/// When the configuration cannot be used.
#[cfg(feature = "faults")]
pub fn build_with_fault(
    mut config: Config,
    metrics: &Metrics,
    fault: crate::faults::Fault,
) -> Result<Client, kube::Error> {
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?.with_layer(&Count(metrics.clone()));
    Ok(builder.with_layer(&crate::faults::Faulty::new(fault)).build())
}

/// Counts requests.
#[derive(Clone)]
pub struct Count(Metrics);

/// See [`Count`].
#[derive(Clone)]
pub struct CountService<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Layer<S> for Count {
    type Service = CountService<S>;

    fn layer(&self, inner: S) -> CountService<S> {
        CountService { inner, metrics: self.0.clone() }
    }
}

impl<S, B> Service<Request<Body>> for CountService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = describe(request.method(), request.uri().path(), request.uri().query());
        let metrics = self.metrics.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or_else(|_| "error".to_owned(), |a| a.status().as_u16().to_string());
            metrics.requested(verb, resource, code);
            answer
        })
    }
}

/// Verb and resource as in RBAC.
fn describe(method: &Method, path: &str, query: Option<&str>) -> (&'static str, String) {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // /api/v1/… and /apis/<group>/<version>/…
    parts.drain(..(if parts.first() == Some(&"api") { 2 } else { 3 }).min(parts.len()));
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    let resource = match parts.as_slice() {
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => String::new(),
    };
    let one = parts.len() > 1;
    let watch = query.is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
    let verb = match *method {
        Method::GET if one => "get",
        Method::GET if watch => "watch",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Method::GET, "/api/v1/nodes", Some("limit=500"), "list", "nodes")]
    #[case(Method::GET, "/api/v1/pods", Some("a=b&watch=true"), "watch", "pods")]
    #[case(Method::PATCH, "/api/v1/nodes/n1", None, "patch", "nodes")]
    #[case(Method::POST, "/api/v1/namespaces/a/pods/p/eviction", None, "create", "pods/eviction")]
    #[case(Method::PATCH, "/apis/cxi.hpe.com/v1/cxinodes/n1/status", None, "patch", "cxinodes/status")]
    #[case(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/x/leases/l", None, "update", "leases")]
    #[case(Method::GET, "/api/v1/namespaces/a", None, "get", "namespaces")]
    #[case(Method::GET, "/", None, "list", "")]
    fn names_requests_as_rbac_does(
        #[case] method: Method,
        #[case] path: &str,
        #[case] query: Option<&str>,
        #[case] verb: &str,
        #[case] resource: &str,
    ) {
        assert_eq!(describe(&method, path, query), (verb, resource.to_owned()));
    }
}
