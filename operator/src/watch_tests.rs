use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::{Mutex, PoisonError},
};

use cxi_node::log::{Format, dispatch};
use hyper::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::{
    health::Health,
    observe::seen::{Module, Pod},
};

/// An API server that answers one request after the other, and is then silent. It tells what it was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = (u16, String)>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    fn client(&self) -> Client {
        let script = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let script = script.clone();
            async move {
                script.asked().push(request.uri().query().unwrap_or_default().to_owned());
                let next = script.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((code, body)) = next else { return std::future::pending().await };
                Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a watch on it until every answer was given and the next thing is asked.
    async fn run<K: Kind>(&self) -> Arc<Cache<K>> {
        let cache: Arc<Cache<K>> = Arc::new(Cache::new(Arc::new(Notify::new())));
        let wanted = self.answers.lock().unwrap().len() + 1;
        let pulse = Health::default().expect("watch", SILENCE);
        let watching = run(Endpoint::all(&self.client()), Selection::default(), cache.clone(), pulse);
        let given = async {
            while self.asked().len() < wanted {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = watching => {}
            done = timeout(Duration::from_secs(30), given) => done.expect("the script was not played to its end"),
        }
        cache
    }

    /// Which requests were made, in one word each.
    fn requests(&self) -> Vec<&'static str> {
        let word = |query: &String| match query {
            query if query.contains("watch=true") => "watch",
            query if query.contains("continue=") => "next page",
            query if query.contains("limit=1&") || query.ends_with("limit=1") => "present",
            _ => "list",
        };
        self.asked().iter().map(word).collect()
    }
}

fn module(name: &str, version: &str) -> Value {
    json!({"metadata": {"name": name, "uid": name, "resourceVersion": version}})
}

fn list(version: &str, next: &str, items: &[Value]) -> (u16, String) {
    (200, json!({"metadata": {"resourceVersion": version, "continue": next}, "items": items}).to_string())
}

/// Events as lines of text.
fn events(lines: &[&str]) -> (u16, String) {
    (200, lines.join("\n") + "\n")
}

fn event(kind: &str, object: &Value) -> String {
    // The API server writes the type first.
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

fn failure(code: u16) -> (u16, String) {
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": "", "message": "no"}).to_string())
}

fn names<K: Kind>(cache: &Arc<Cache<K>>) -> Vec<String> {
    let mut names: Vec<_> = cache.all().iter().map(|object| object.id.name().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_list_is_read_in_pages_and_watched_from_its_version_on() {
    let script = Script::new([
        list("10", "more", &[module("a", "3")]),
        list("10", "", &[module("b", "4")]),
        events(&[&event("ADDED", &module("c", "12")), &event("DELETED", &module("a", "13"))]),
        list("13", "", &[]),
    ]);
    let cache = script.run::<Module>().await;
    assert_eq!(names(&cache), ["b", "c"]);
    assert_eq!(script.requests(), ["list", "next page", "watch", "present", "watch"]);
    let asked = script.asked();
    assert!(asked[0].contains("limit=100") && !asked[0].contains("resourceVersion"), "{}", asked[0]);
    assert!(asked[2].contains("resourceVersion=10") && asked[2].contains("allowWatchBookmarks=true"), "{}", asked[2]);
    assert!(asked[4].contains("resourceVersion=13"), "the next watch goes on: {}", asked[4]);
}

#[tokio::test]
async fn one_object_that_cannot_be_read_does_not_hide_the_others() {
    let beyond = json!({
        "metadata": {"name": "a", "uid": "a", "resourceVersion": "3", "managedFields": [{"time": "9999-12-31T23:59:59Z"}]},
    });
    let broken = json!({"metadata": {"name": "b", "uid": "b", "resourceVersion": "4", "labels": 5}});
    let broken_later = json!({"metadata": {"name": "a", "uid": "a", "resourceVersion": "11", "labels": 5}});
    let script = Script::new([
        list("10", "", &[beyond, broken.clone(), module("c", "5")]),
        events(&[&event("MODIFIED", &broken_later), &event("ADDED", &module("d", "12"))]),
    ]);
    let cache = script.run::<Module>().await;
    assert_eq!(names(&cache), ["a", "b", "c", "d"]);
    let unreadable: Vec<_> = cache.all().iter().filter_map(|object| object.unreadable()).collect();
    assert_eq!(unreadable.len(), 2, "{unreadable:?}");
    assert!(cache.synced());
}

#[tokio::test]
async fn an_event_without_an_object_is_followed_by_a_list() {
    for line in
        [r#"{"type":"ADDED","object":{"metadata":{}}}"#, r#"{"type":"FROM_THE_FUTURE","object":{}}"#, "nonsense"]
    {
        let script = Script::new([
            list("10", "", &[module("a", "3")]),
            events(&[line, &event("ADDED", &module("lost", "12"))]),
            list("12", "", &[module("a", "3"), module("b", "12")]),
        ]);
        let cache = script.run::<Module>().await;
        assert_eq!(script.requests(), ["list", "watch", "list", "watch"], "{line}");
        assert_eq!(names(&cache), ["a", "b"]);
    }
}

#[tokio::test]
async fn a_version_that_is_not_known_any_more_is_followed_by_a_list() {
    let gone = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
    for answer in [failure(410), events(&[&event("ERROR", &gone)])] {
        let script = Script::new([list("10", "", &[]), answer, list("20", "", &[module("a", "15")])]);
        assert_eq!(names(&script.run::<Module>().await), ["a"]);
        assert_eq!(script.requests(), ["list", "watch", "list", "watch"]);
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_is_begun_anew() {
    let script =
        Script::new([list("10", "more", &[module("a", "3")]), failure(410), list("20", "", &[module("b", "15")])]);
    assert_eq!(names(&script.run::<Module>().await), ["b"]);
    assert_eq!(script.requests(), ["list", "next page", "list", "watch"]);
}

#[tokio::test]
async fn a_busy_api_server_is_asked_again_from_where_it_was() {
    let script = Script::new([
        list("10", "", &[]),
        events(&[&event(
            "BOOKMARK",
            &json!({"kind": "Module", "apiVersion": "v1", "metadata": {"resourceVersion": "17"}}),
        )]),
        list("17", "", &[]),
        failure(429),
        list("17", "", &[]),
    ]);
    script.run::<Module>().await;
    assert_eq!(script.requests(), ["list", "watch", "present", "watch", "present", "watch"]);
    assert!(script.asked()[5].contains("resourceVersion=17"));
}

#[tokio::test]
async fn a_database_that_was_put_back_is_noticed_by_the_present_and_by_events() {
    let restored = || list("50", "", &[module("a", "40")]);
    let told = [
        vec![events(&[&event("MODIFIED", &module("b", "101"))]), list("45", "", &[])],
        vec![events(&[&event("ADDED", &module("b", "45"))])],
    ];
    for told in told {
        let before = [list("100", "", &[module("a", "90"), module("b", "95")])];
        let script = Script::new(before.into_iter().chain(told).chain([restored()]));
        let cache = script.run::<Module>().await;
        assert_eq!(cache.put_back(), 1, "{:?}", script.requests());
        let versions: Vec<_> = cache.all().iter().map(|object| object.id.version.to_string()).collect();
        assert_eq!(versions, ["40"]);
        assert!(script.asked().last().unwrap().contains("resourceVersion=50"));
    }
}

#[tokio::test]
async fn a_kind_that_is_not_served_is_asked_for_until_it_is() {
    let script = Script::new([failure(404), failure(404)]);
    let cache = script.run::<Module>().await;
    assert_eq!((cache.served(), cache.synced()), (Served::No, false));
    let script = Script::new([failure(404), list("10", "", &[])]);
    let cache = script.run::<Module>().await;
    assert_eq!((cache.served(), cache.synced()), (Served::Yes, true));
    let script = Script::new([list("10", "", &[]), failure(404)]);
    assert_eq!(script.run::<Module>().await.served(), Served::No);
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Neither does the operator say what it could not read, nor does kube, which would log the whole answer.
#[test]
fn what_tenants_write_stays_out_of_the_log() {
    let pod = |name: &str, labels: Value| {
        json!({
            "metadata": {"name": name, "namespace": "jobs", "uid": name, "resourceVersion": "3", "labels": labels},
            "spec": {"nodeName": "n", "containers": [{
                "name": "c", "env": [{"name": "TOKEN", "value": "hunter2"}], "resources": {"limits": {"hpe.com/cxi": "1"}},
            }]},
        })
    };
    let pods = [pod("good", json!({})), pod("bad", json!("hunter2"))];
    for (format, asked) in [(Format::Json, None), (Format::Text, Some("debug"))] {
        let kept = Kept::default();
        let writer = kept.clone();
        let _logged = tracing::dispatcher::set_default(&dispatch(format, asked, move || writer.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let script = Script::new([
                list("10", "", &pods),
                events(&[&event("MODIFIED", &json!({"metadata": "hunter2"})), r#"{"type": "hunter2"}"#]),
                list("10", "", &pods),
            ]);
            assert_eq!(names(&script.run::<Pod>().await), ["bad", "good"]);
            // What kube itself makes of such a list.
            let client = Script::new([list("10", "", &pods)]).client();
            let api: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::all(client);
            assert!(api.list(&ListParams::default()).await.is_err());
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("jobs/bad") && text.contains("metadata.labels"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
