//! For tests of restarts: one write is lost, on its way out or on its way back, and the process ends as if it had been
//! killed at that moment.

use std::{
    future::Future,
    pin::Pin,
    process,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use hyper::{Method, Request};
use kube::client::Body;
use tower::{Layer, Service};

/// Exit status of a process that ended by a fault.
pub const EXIT: i32 = 86;

/// Which write is lost, and how: `7:drop`, `7:lose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    number: u64,
    answer_only: bool,
}

/// A text that is not a fault.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a fault; write it as in 7:drop or 7:lose, counting from 1")]
pub struct InvalidFault(String);

impl FromStr for Fault {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, InvalidFault> {
        let invalid = || InvalidFault(text.to_owned());
        let (number, how) = text.split_once(':').ok_or_else(invalid)?;
        let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(invalid)?;
        match how {
            "drop" => Ok(Self { number, answer_only: false }),
            "lose" => Ok(Self { number, answer_only: true }),
            _ => Err(invalid()),
        }
    }
}

/// The layer that loses the write.
#[derive(Clone)]
pub struct Faulty {
    fault: Fault,
    writes: Arc<AtomicU64>,
}

/// See [`Faulty`].
#[derive(Clone)]
pub struct FaultyService<S> {
    inner: S,
    faulty: Faulty,
}

impl Faulty {
    /// A layer with this fault.
    pub fn new(fault: Fault) -> Self {
        Self { fault, writes: Arc::default() }
    }

    /// Whether this request is the one. Leases and Events do not count: they come as time passes, and no step depends on
    /// them.
    fn hits<B>(&self, request: &Request<B>) -> bool {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let path = request.uri().path();
        let counts = !reads && !path.contains("/leases") && !path.contains("/events");
        counts && self.writes.fetch_add(1, Ordering::SeqCst) + 1 == self.fault.number
    }
}

impl<S> Layer<S> for Faulty {
    type Service = FaultyService<S>;

    fn layer(&self, inner: S) -> FaultyService<S> {
        FaultyService { inner, faulty: self.clone() }
    }
}

impl<S> Service<Request<Body>> for FaultyService<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let hit = self.faulty.hits(&request);
        if hit && !self.faulty.fault.answer_only {
            end(&request, "dropped");
        }
        let line = hit.then(|| Request::builder().method(request.method()).uri(request.uri()).body(()));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(Ok(line)) = line {
                end(&line, "lost the answer to");
            }
            answer
        })
    }
}

fn end<B>(request: &Request<B>, what: &str) -> ! {
    tracing::error!(method = %request.method(), path = request.uri().path(), "fault: {what} this write");
    process::exit(EXIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_writes_only() {
        let faulty = Faulty::new("2:drop".parse().unwrap());
        let request = |method: Method, path: &str| Request::builder().method(method).uri(path).body(()).unwrap();
        let hits: Vec<bool> = [
            (Method::PATCH, "/api/v1/nodes/n1"),
            (Method::GET, "/api/v1/nodes"),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"),
            (Method::POST, "/api/v1/namespaces/a/pods"),
            (Method::POST, "/api/v1/namespaces/a/pods"),
        ]
        .map(|(method, path)| faulty.hits(&request(method, path)))
        .into();
        assert_eq!(hits, [false, false, false, true, false]);
    }

    #[test]
    fn refuses_nonsense() {
        for text in ["", "7", "0:drop", "x:drop", "7:forget"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }
}
