//! What the operator knows of one kind: fed by a watch, and by the answers to the operator's own writes.
//!
//! The rules that make it safe to plan on:
//! - An object is replaced only by a newer one, so an event that was under way when the operator wrote takes nothing back.
//! - A list that failed changes nothing. A list that succeeded replaces everything except what was written meanwhile.
//! - An object that cannot be read is not an absent object: its last readable version stays, and where there is none the
//!   cache says so ([`Cache::blind_to`]) and nobody plans.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::DeserializeGuard, runtime::watcher::Event};
use tokio::sync::Notify;
use tracing::warn;

/// How many deleted UIDs are remembered, so that the answer to an earlier write does not bring an object back. An answer is
/// late by seconds; more deletions than this in that time do not happen.
const TOMBSTONES: usize = 1024;

/// Namespace (empty for cluster-scoped kinds) and name.
pub type Key = (String, String);

/// Drops what nobody reads from an object; `None` when the whole object is of no interest.
pub type Keep<K> = fn(K) -> Option<K>;

/// The objects of one kind.
pub struct Cache<K> {
    kind: &'static str,
    keep: Keep<K>,
    strict: bool,
    changed: Arc<Notify>,
    state: RwLock<State<K>>,
}

/// Whether the API server serves a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Not known yet: no answer so far.
    Unknown,
    /// The kind is not installed.
    No,
    /// Listed at least once.
    Yes,
}

struct State<K> {
    objects: HashMap<Key, Arc<K>>,
    unreadable: HashMap<Key, String>,
    relist: Option<Relist<K>>,
    tombstones: VecDeque<String>,
    synced: bool,
    served: Served,
}

struct Relist<K> {
    objects: HashMap<Key, Arc<K>>,
    unreadable: HashMap<Key, String>,
    written: HashMap<Key, Arc<K>>,
    newest: u64,
}

impl<K: Resource<DynamicType = ()> + Clone + PartialEq> Cache<K> {
    /// An empty cache. `strict` says that nothing may be planned while an object of this kind cannot be read.
    pub fn new(kind: &'static str, strict: bool, keep: Keep<K>, changed: Arc<Notify>) -> Self {
        let state = State {
            objects: HashMap::new(),
            unreadable: HashMap::new(),
            relist: None,
            tombstones: VecDeque::new(),
            synced: false,
            served: Served::Unknown,
        };
        Self { kind, keep, strict, changed, state: RwLock::new(state) }
    }

    /// Name of the kind, for messages.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether the kind was listed completely at least once.
    pub fn synced(&self) -> bool {
        self.read().synced
    }

    /// Whether the API server serves the kind.
    pub fn served(&self) -> Served {
        self.read().served
    }

    /// An object that cannot be read and of which there is no earlier version, with the reason; only for strict kinds.
    pub fn blind_to(&self) -> Option<String> {
        if !self.strict {
            return None;
        }
        let state = self.read();
        state.unreadable.iter().next().map(|((namespace, name), error)| {
            let slash = if namespace.is_empty() { "" } else { "/" };
            format!("{} {namespace}{slash}{name} cannot be read: {error}", self.kind)
        })
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// Takes in what the watch says.
    pub fn observe(&self, event: Event<DeserializeGuard<K>>) {
        let changed = match event {
            Event::Init => {
                self.write().relist = Some(Relist::new());
                false
            }
            Event::InitApply(DeserializeGuard(object)) => {
                self.listed(object.map_err(|invalid| (invalid.metadata, invalid.error)));
                false
            }
            Event::InitDone => self.list_done(),
            Event::Apply(DeserializeGuard(Ok(object))) => self.applied(object),
            Event::Apply(DeserializeGuard(Err(invalid))) => {
                self.unreadable(&invalid.metadata, invalid.error);
                true
            }
            Event::Delete(object) => self.deleted(object.meta()),
        };
        if changed {
            self.changed.notify_one();
        }
    }

    /// Takes in the answer to a write of ours, before the watch tells.
    pub fn wrote(&self, object: K) {
        let meta = object.meta();
        let ended = meta.deletion_timestamp.is_some()
            && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
            && meta.deletion_grace_period_seconds.is_none_or(|seconds| seconds == 0);
        if ended {
            self.gone(&meta.uid.clone().unwrap_or_default());
            return;
        }
        let key = key(meta);
        let Some(object) = (self.keep)(object).map(Arc::new) else { return };
        let mut state = self.write();
        if object.meta().uid.as_ref().is_some_and(|uid| state.tombstones.contains(uid)) {
            return;
        }
        if let Some(relist) = &mut state.relist {
            relist.written.insert(key.clone(), object.clone());
        }
        state.put(key, object);
    }

    /// The object with this UID is known not to exist.
    pub fn gone(&self, uid: &str) {
        let mut state = self.write();
        state.objects.retain(|_, object| object.meta().uid.as_deref() != Some(uid));
        state.bury(uid.to_owned());
    }

    /// The API server says that the kind is not installed. What was seen before stays.
    pub fn not_served(&self) {
        let before = std::mem::replace(&mut self.write().served, Served::No);
        if before != Served::No {
            self.changed.notify_one();
        }
    }

    fn listed(&self, object: Result<K, (ObjectMeta, String)>) {
        let mut state = self.write();
        let State { objects, relist: Some(relist), .. } = &mut *state else { return };
        match object {
            Ok(object) => {
                relist.newest = relist.newest.max(version(object.meta()));
                let key = key(object.meta());
                if let Some(object) = (self.keep)(object) {
                    relist.objects.insert(key, Arc::new(object));
                }
            }
            Err((meta, error)) => {
                warn!(kind = self.kind, name = meta.name, error, "an object cannot be read");
                relist.newest = relist.newest.max(version(&meta));
                let key = key(&meta);
                match objects.get(&key).filter(|known| known.meta().uid == meta.uid) {
                    Some(known) => drop(relist.objects.insert(key, known.clone())),
                    None => drop(relist.unreadable.insert(key, error)),
                }
            }
        }
    }

    fn list_done(&self) -> bool {
        let mut state = self.write();
        let Some(Relist { objects, unreadable, written, newest }) = state.relist.take() else { return false };
        // An object of the store that is newer than the listed one was written by us after the list was read.
        let old = std::mem::replace(&mut state.objects, objects);
        for (key, listed) in &mut state.objects {
            if let Some(known) = old.get(key).filter(|known| version(known.meta()) > version(listed.meta())) {
                *listed = known.clone();
            }
        }
        // Absent from the list: written after it, unless the list is newer.
        for (key, object) in written {
            if version(object.meta()) > newest {
                state.objects.entry(key).or_insert(object);
            }
        }
        state.unreadable = unreadable;
        state.synced = true;
        state.served = Served::Yes;
        true
    }

    fn applied(&self, object: K) -> bool {
        let key = key(object.meta());
        let newer = version(object.meta());
        let mut state = self.write();
        state.unreadable.remove(&key);
        let known = state.objects.get(&key);
        if known.is_some_and(|known| version(known.meta()) > newer) {
            return false;
        }
        match (self.keep)(object) {
            Some(object) => {
                let changed = known.is_none_or(|known| !same(known.as_ref(), &object));
                state.objects.insert(key, Arc::new(object));
                changed
            }
            None => state.objects.remove(&key).is_some(),
        }
    }

    fn unreadable(&self, meta: &ObjectMeta, error: String) {
        warn!(kind = self.kind, name = meta.name, error, "an object cannot be read");
        let key = key(meta);
        let mut state = self.write();
        if state.objects.get(&key).is_none_or(|known| known.meta().uid != meta.uid) {
            state.objects.remove(&key);
            state.unreadable.insert(key, error);
        }
    }

    fn deleted(&self, meta: &ObjectMeta) -> bool {
        let key = key(meta);
        let mut state = self.write();
        state.unreadable.remove(&key);
        if let Some(uid) = &meta.uid {
            state.bury(uid.clone());
        }
        // A deletion of an earlier object of this name says nothing about the present one.
        let same = state.objects.get(&key).is_some_and(|known| known.meta().uid == meta.uid);
        same && state.objects.remove(&key).is_some()
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Resource<DynamicType = ()>> State<K> {
    fn put(&mut self, key: Key, object: Arc<K>) {
        let newer = version(object.meta());
        if self.objects.get(&key).is_none_or(|known| version(known.meta()) <= newer) {
            self.objects.insert(key, object);
        }
    }

    fn bury(&mut self, uid: String) {
        if self.tombstones.len() == TOMBSTONES {
            self.tombstones.pop_front();
        }
        self.tombstones.push_back(uid);
    }
}

impl<K> Relist<K> {
    fn new() -> Self {
        Self { objects: HashMap::new(), unreadable: HashMap::new(), written: HashMap::new(), newest: 0 }
    }
}

fn key(meta: &ObjectMeta) -> Key {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// The resource version as a number, by which objects of one kind are ordered; the oldest when it is not a number.
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether two versions of an object differ in nothing that is kept.
fn same<K: Resource<DynamicType = ()> + Clone + PartialEq>(known: &K, newer: &K) -> bool {
    let mut known = known.clone();
    known.meta_mut().resource_version.clone_from(&newer.meta().resource_version);
    known == *newer
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
