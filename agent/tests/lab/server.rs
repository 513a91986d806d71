//! As much of an API server as the report needs: lists, watches, server-side apply and deletion of two kinds, on
//! loopback. Apply replaces what the agent owns, which here is everything it names.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, patch},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A request that changes something: verb, what, body.
pub type Write = (String, String, Value);

#[derive(Default)]
struct Inner {
    /// Objects by kind and name.
    objects: BTreeMap<(String, String), Value>,
    version: u64,
    uids: u64,
    writes: Vec<Write>,
    watchers: Vec<(String, mpsc::UnboundedSender<Value>)>,
    down: bool,
}

/// The server.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<Inner>>);

impl Server {
    /// Serves, and gives a client.
    pub async fn start() -> (Self, kube::Client) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (server, address) = Self::listen().await;
        let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
        config.default_retry = false;
        (server, kube::Client::try_from(config).unwrap())
    }

    /// Serves, and says where.
    pub async fn listen() -> (Self, std::net::SocketAddr) {
        let server = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/apis/cxi.hpe.com/v1/{kind}", get(list_or_watch))
            .route("/apis/cxi.hpe.com/v1/{kind}/{name}", patch(apply).delete(remove))
            .route("/apis/cxi.hpe.com/v1/{kind}/{name}/status", patch(apply_status))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (server, address)
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Makes a CXINode whose phase began at `since`, as the operator does.
    pub fn node(&self, name: &str, since: &str) {
        let mut inner = self.inner();
        let key = ("cxinodes".to_owned(), name.to_owned());
        let mut node = inner.objects.get(&key).cloned().unwrap_or_else(|| json!({"metadata": {"name": name}}));
        node["status"]["rollout"] = json!({"driver": "d", "phase": "Quiesced", "since": since});
        inner.put(key, node);
    }

    /// Changes the stored object as somebody else would.
    pub fn edit(&self, kind: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut inner = self.inner();
        let key = (kind.to_owned(), name.to_owned());
        let mut object = inner.objects[&key].clone();
        edit(&mut object);
        inner.put(key, object);
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.inner().objects.get(&(kind.to_owned(), name.to_owned())).cloned()
    }

    pub fn delete(&self, kind: &str, name: &str) {
        self.inner().take(&(kind.to_owned(), name.to_owned()));
    }

    /// `status.node` of a CXINode.
    pub fn report(&self, node: &str) -> Value {
        self.get("cxinodes", node).map(|node| node["status"]["node"].clone()).unwrap_or_default()
    }

    /// Every change so far that the agent asked for and got.
    pub fn writes(&self) -> Vec<Write> {
        self.inner().writes.clone()
    }

    /// Stops answering anything but 503, and ends every watch.
    pub fn set_down(&self, down: bool) {
        let mut inner = self.inner();
        inner.down = down;
        inner.watchers.clear();
    }
}

impl Inner {
    fn put(&mut self, key: (String, String), mut object: Value) -> Value {
        self.version += 1;
        let known = self.objects.contains_key(&key);
        object["apiVersion"] = "cxi.hpe.com/v1".into();
        object["kind"] = if key.0 == "cxinodes" { "CXINode" } else { "CXIDevice" }.into();
        if !known {
            self.uids += 1;
            object["metadata"]["uid"] = format!("uid-{}", self.uids).into();
        }
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell(&key.0, if known { "MODIFIED" } else { "ADDED" }, &object);
        self.objects.insert(key, object.clone());
        object
    }

    fn take(&mut self, key: &(String, String)) -> Option<Value> {
        let object = self.objects.remove(key)?;
        self.version += 1;
        self.tell(&key.0, "DELETED", &object);
        Some(object)
    }

    fn tell(&mut self, kind: &str, event: &str, object: &Value) {
        self.watchers.retain(|(watched, watcher)| {
            watched != kind || watcher.send(json!({"type": event, "object": object})).is_ok()
        });
    }
}

fn refusal(code: StatusCode) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
        "reason": code.canonical_reason(), "message": "refused"});
    (code, Json(status)).into_response()
}

async fn list_or_watch(
    State(server): State<Server>,
    Path(kind): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let mut inner = server.inner();
    if inner.down {
        return refusal(StatusCode::SERVICE_UNAVAILABLE);
    }
    // One node per server: selectors are checked, not applied.
    let selector = if kind == "cxinodes" { &query["fieldSelector"] } else { &query["labelSelector"] };
    assert!(matches!(selector.as_str(), "metadata.name=n1" | "cxi.hpe.com/node=n1"), "{selector}");
    if query.contains_key("watch") {
        let (sender, receiver) = mpsc::unbounded_channel();
        inner.watchers.push((kind, sender));
        let lines = futures::stream::unfold(receiver, |mut receiver| async {
            let event: Value = receiver.recv().await?;
            Some((Ok::<_, Infallible>(format!("{event}\n")), receiver))
        });
        return Response::new(Body::from_stream(lines));
    }
    let items: Vec<_> =
        inner.objects.iter().filter(|((stored, _), _)| *stored == kind).map(|(_, object)| object.clone()).collect();
    let version = inner.version.to_string();
    Json(json!({"kind": "List", "apiVersion": "cxi.hpe.com/v1", "metadata": {"resourceVersion": version}, "items": items}))
        .into_response()
}

async fn apply(
    State(server): State<Server>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    body: String,
) -> Response {
    change(&server, &query, "apply", (kind, name), &body)
}

async fn apply_status(
    State(server): State<Server>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    body: String,
) -> Response {
    change(&server, &query, "apply status", (kind, name), &body)
}

fn change(
    server: &Server,
    query: &BTreeMap<String, String>,
    verb: &str,
    key: (String, String),
    body: &str,
) -> Response {
    let mut inner = server.inner();
    if inner.down {
        return refusal(StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!((query["fieldManager"].as_str(), query["force"].as_str()), ("cxi-agent", "true"));
    let body: Value = serde_json::from_str(body).unwrap();
    let stored = inner.objects.get(&key).cloned();
    let mut object = match stored {
        None if verb == "apply status" => return refusal(StatusCode::NOT_FOUND),
        None => json!({}),
        Some(stored) => stored,
    };
    if body["metadata"]["uid"].is_string() && body["metadata"]["uid"] != object["metadata"]["uid"] {
        return refusal(StatusCode::CONFLICT);
    }
    if verb == "apply" {
        for field in ["name", "labels", "ownerReferences"] {
            object["metadata"][field] = body["metadata"][field].clone();
        }
    } else if key.0 == "cxinodes" {
        object["status"]["node"] = body["status"]["node"].clone();
    } else {
        object["status"] = body["status"].clone();
    }
    inner.writes.push((verb.to_owned(), format!("{}/{}", key.0, key.1), body));
    Json(inner.put(key, object)).into_response()
}

async fn remove(State(server): State<Server>, Path(key): Path<(String, String)>, body: String) -> Response {
    let mut inner = server.inner();
    if inner.down {
        return refusal(StatusCode::SERVICE_UNAVAILABLE);
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    let Some(stored) = inner.objects.get(&key) else { return refusal(StatusCode::NOT_FOUND) };
    if body["preconditions"]["uid"] != stored["metadata"]["uid"] {
        return refusal(StatusCode::CONFLICT);
    }
    inner.writes.push(("delete".to_owned(), format!("{}/{}", key.0, key.1), body));
    Json(inner.take(&key)).into_response()
}
