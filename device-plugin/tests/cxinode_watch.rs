//! The watch of the node's CXINode, against an API server that answers, fails and ends its streams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cxi_api::Advertise;
use cxi_device_plugin::offer::cxinode;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::codegen::http::{Request, Response};

const LIMIT: Duration = Duration::from_secs(30);

fn node(advertise: &str, version: u32) -> Value {
    json!({
        "apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "spec": {},
        "metadata": {"name": "n1", "uid": "u", "resourceVersion": version.to_string()},
        "status": {"rollout": {"driver": "d", "phase": "Waiting", "since": "2026-01-01T00:00:00Z", "advertise": advertise}},
    })
}

/// What the server does next; the last entry is repeated.
#[derive(Clone)]
enum Answer {
    List(Vec<Value>),
    /// One event, then the stream ends.
    Event(&'static str, Value),
    Fail(u16),
}

/// An API server that gives these answers, and checks what it is asked.
fn server(answers: Vec<Answer>) -> (kube::Client, Arc<Mutex<Vec<Answer>>>) {
    let answers = Arc::new(Mutex::new(answers));
    let script = Arc::clone(&answers);
    let service = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        assert!(uri.starts_with("/apis/cxi.hpe.com/v1/cxinodes?"), "{uri}");
        assert!(uri.contains("fieldSelector=metadata.name%3Dn1"), "{uri}");
        let mut script = script.lock().unwrap();
        let answer = if script.len() > 1 { script.remove(0) } else { script[0].clone() };
        async move {
            let (code, body) = match answer {
                Answer::List(items) => (
                    200,
                    json!({"kind": "CXINodeList", "apiVersion": "cxi.hpe.com/v1", "metadata": {"resourceVersion": "1"}, "items": items}),
                ),
                Answer::Event(kind, object) => (200, json!({"type": kind, "object": object})),
                Answer::Fail(code) => (
                    code,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "x", "message": "no"}),
                ),
            };
            // Time passes with every request, as it does on a network.
            sleep(Duration::from_millis(20)).await;
            let response = Response::builder().status(code).header("content-type", "application/json");
            Ok::<_, tower::BoxError>(response.body(Body::from(format!("{body}\n").into_bytes())).unwrap())
        }
    });
    (kube::Client::new(service, "default"), answers)
}

async fn until(receiver: &mut watch::Receiver<Option<Advertise>>, wanted: Advertise) {
    let waiting = receiver.wait_for(|advertise| *advertise == Some(wanted));
    assert!(timeout(LIMIT, waiting).await.is_ok_and(|found| found.is_ok()), "{wanted:?} is never advertised");
}

#[tokio::test(start_paused = true)]
async fn values_are_followed_through_failures_and_ends_of_streams() {
    let (client, answers) = server(vec![
        Answer::Fail(503),
        Answer::List(vec![node("InUse", 1)]),
        Answer::Event("MODIFIED", node("None", 2)),
        Answer::Fail(500),
        Answer::Fail(500),
        Answer::Fail(500),
    ]);
    let (sender, mut receiver) = watch::channel(None);
    let watching = tokio::spawn(cxinode::run(client, "n1".into(), sender, watch::channel(None).0));
    until(&mut receiver, Advertise::InUse).await;
    until(&mut receiver, Advertise::None).await;
    sleep(LIMIT).await;
    assert_eq!(*receiver.borrow(), Some(Advertise::None), "an API server that fails changes nothing");
    *answers.lock().unwrap() = vec![Answer::Event("DELETED", node("None", 3)), Answer::Fail(500)];
    until(&mut receiver, Advertise::All).await;
    drop(receiver);
    timeout(LIMIT, watching).await.expect("it ends when nobody listens").unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_cxinode_is_all() {
    let (client, _answers) = server(vec![Answer::List(vec![]), Answer::Fail(500)]);
    let (sender, mut receiver) = watch::channel(None);
    let _watching = tokio::spawn(cxinode::run(client, "n1".into(), sender, watch::channel(None).0));
    until(&mut receiver, Advertise::All).await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_again() {
    let (client, _answers) = server(vec![
        Answer::List(vec![node("None", 1)]),
        Answer::Fail(410),
        Answer::List(vec![node("InUse", 9)]),
        Answer::Fail(500),
    ]);
    let (sender, mut receiver) = watch::channel(None);
    let _watching = tokio::spawn(cxinode::run(client, "n1".into(), sender, watch::channel(None).0));
    until(&mut receiver, Advertise::InUse).await;
}
