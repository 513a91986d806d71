//! Events on Nodes and CXIDrivers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use cxi_api::names::OPERATOR;
use cxi_rollout::action::Announcement;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, Resource, api::PostParams};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::observe::{
    Snapshot,
    seen::{Kind, Object},
};

/// Cluster-scoped objects have their events here (client-go `tools/events`).
const NAMESPACE: &str = "default";

/// Longest note that the API server takes.
const NOTE_MAX: usize = 1024;

/// A plan that is made again before the write that goes with it has landed says the same again.
const REPEAT: Duration = Duration::from_mins(1);

/// Publishes events.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    said: Arc<Mutex<Recent>>,
}

type Said = (String, Option<String>, String, String);

/// What was said in the last minute, swept now and then: not for each of ten thousand nodes that all have something to say.
struct Recent {
    when: HashMap<Said, Instant>,
    swept: Instant,
}

impl Events {
    /// Events from this instance of the operator.
    pub fn new(client: Client, instance: String) -> Self {
        Self { client, instance, said: Arc::new(Mutex::new(Recent { when: HashMap::new(), swept: Instant::now() })) }
    }

    /// Publishes an announcement on its Node, or on its CXIDriver when it is about no node, unless it was just
    /// published. A warning about a node appears on both: `kubectl describe` of the CXIDriver shows what went wrong,
    /// not every step of every node. An event that cannot be written is logged and lost: nothing depends on it.
    pub fn publish(&self, about: &Announcement, seen: &Arc<Snapshot>, tasks: &TaskTracker) {
        if !self.is_new(about, Instant::now()) {
            return;
        }
        let node = about.node.as_deref().and_then(|name| seen.node(name)).map(|node| reference(node.as_ref()));
        let driver = seen
            .driver(&about.driver)
            .filter(|_| about.warning || node.is_none())
            .map(|driver| reference(driver.as_ref()));
        for regarding in [node, driver].into_iter().flatten() {
            let event = self.event(about, regarding);
            let api: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
            tasks.spawn(async move {
                if let Err(error) = api.create(&PostParams::default(), &event).await {
                    warn!(reason = event.reason, %error, "an event could not be published");
                }
            });
        }
    }

    fn is_new(&self, about: &Announcement, now: Instant) -> bool {
        let key = (about.driver.clone(), about.node.clone(), about.reason.clone(), about.message.clone());
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(said.swept) >= REPEAT / 4 {
            said.swept = now;
            said.when.retain(|_, at| now.duration_since(*at) < REPEAT);
        }
        said.when.insert(key, now).is_none_or(|before| now.duration_since(before) >= REPEAT)
    }

    fn event(&self, about: &Announcement, regarding: ObjectReference) -> Event {
        let now = jiff::Timestamp::now();
        let name = regarding.name.clone().unwrap_or_default();
        let message = match &about.node {
            Some(node) if regarding.kind.as_deref() != Some("Node") => format!("{node}: {}", about.message),
            _ => about.message.clone(),
        };
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some("Rollout".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(shortened(&message)),
            reason: Some(about.reason.clone()),
            regarding: Some(regarding),
            reporting_controller: Some(format!("cxi.hpe.com/{OPERATOR}")),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if about.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

fn reference<K: Kind>(object: &Object<K>) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::Api::api_version(&()).into_owned()),
        kind: Some(K::kind()),
        name: Some(object.id.name().to_owned()),
        uid: Some(object.id.uid.to_string()),
        ..ObjectReference::default()
    }
}

fn shortened(message: &str) -> String {
    let mut end = message.len().min(NOTE_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_cut_between_characters() {
        let long = "é".repeat(NOTE_MAX);
        assert_eq!(shortened(&long).len(), NOTE_MAX);
        assert_eq!(shortened(&format!("x{long}")).len(), NOTE_MAX - 1);
        assert_eq!(shortened("short"), "short");
    }
}
