//! A watch that never loses a deletion: what disappeared while the stream was broken is reported as gone after the next
//! list.

use std::{collections::HashMap, fmt::Debug, hash::Hash, pin::pin, time::Duration};

use backon::ExponentialBuilder;
use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, ExponentialBackoff, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::plain::Plain;

/// What a watch saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<K> {
    /// The object as it is now.
    Applied(K),
    /// The object as it was last seen; it is gone.
    Gone(K),
    /// Every object that existed at the start has been reported.
    Synced,
}

/// Pauses between tries: at most `RETRY_MAX`. Short, because what happens while a watch is broken may never be seen.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(250);

/// Reports every change of the objects of `api` to `seen` until `stop`. Errors of the stream are retried.
pub async fn follow<K>(
    api: Api<Plain<K>>,
    config: watcher::Config,
    stop: CancellationToken,
    mut seen: impl FnMut(Seen<K>) + Send,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let mut known = Known::default();
    let pauses = ExponentialBuilder::new().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX).without_max_times();
    let retries = ExponentialBackoff::from(pauses.with_jitter());
    let mut stream = pin!(watcher(api, config).backoff(retries));
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = stream.next() => event,
        };
        match event {
            None => return,
            Some(Err(error)) => tracing::debug!(%error, "watch is repeated"),
            Some(Ok(event)) => known.fold(plain(event)).into_iter().for_each(&mut seen),
        }
    }
}

fn plain<K>(event: Event<Plain<K>>) -> Event<K> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(Plain(object)) => Event::InitApply(object),
        Event::InitDone => Event::InitDone,
        Event::Apply(Plain(object)) => Event::Apply(object),
        Event::Delete(Plain(object)) => Event::Delete(object),
    }
}

/// The objects that a watch has reported, by namespace and name.
struct Known<K> {
    objects: HashMap<(Option<String>, String), K>,
    listing: HashMap<(Option<String>, String), K>,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listing: HashMap::new() }
    }
}

impl<K: Resource + Clone> Known<K> {
    fn fold(&mut self, event: Event<K>) -> Vec<Seen<K>> {
        match event {
            Event::Init => {
                self.listing.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listing.insert(key(&object), object);
                Vec::new()
            }
            Event::InitDone => {
                let now = std::mem::take(&mut self.listing);
                let gone: Vec<_> = self.objects.keys().filter(|k| !now.contains_key(*k)).cloned().collect();
                let mut seen: Vec<_> =
                    gone.into_iter().filter_map(|k| self.objects.remove(&k)).map(Seen::Gone).collect();
                seen.extend(now.into_values().flat_map(|object| self.apply(object)));
                seen.push(Seen::Synced);
                seen
            }
            Event::Apply(object) => self.apply(object),
            Event::Delete(object) => {
                self.objects.remove(&key(&object));
                vec![Seen::Gone(object)]
            }
        }
    }

    /// An object of the same name with another UID is another object: the old one is gone.
    fn apply(&mut self, object: K) -> Vec<Seen<K>> {
        let old = self.objects.insert(key(&object), object.clone());
        let replaced = old.filter(|old| old.uid() != object.uid());
        replaced.map(Seen::Gone).into_iter().chain([Seen::Applied(object)]).collect()
    }
}

fn key<K: Resource>(object: &K) -> (Option<String>, String) {
    (object.meta().namespace.clone(), object.meta().name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn object(name: &str, uid: &str) -> ConfigMap {
        serde_json::from_value(json!({ "metadata": { "name": name, "uid": uid } })).unwrap()
    }

    fn list(known: &mut Known<ConfigMap>, objects: &[ConfigMap]) -> Vec<Seen<ConfigMap>> {
        known.fold(Event::Init);
        for object in objects {
            known.fold(Event::InitApply(object.clone()));
        }
        known.fold(Event::InitDone)
    }

    #[test]
    fn what_vanished_between_two_lists_is_gone() {
        let mut known = Known::default();
        list(&mut known, &[object("a", "1"), object("b", "1")]);
        let seen = list(&mut known, &[object("a", "1")]);
        assert!(seen.contains(&Seen::Gone(object("b", "1"))) && seen.last() == Some(&Seen::Synced));
    }

    #[test]
    fn a_recreated_object_is_another_object() {
        let mut known = Known::default();
        list(&mut known, &[object("a", "1")]);
        let seen = known.fold(Event::Apply(object("a", "2")));
        assert_eq!(seen, [Seen::Gone(object("a", "1")), Seen::Applied(object("a", "2"))]);
    }
}
