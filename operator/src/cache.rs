//! What the operator knows of one kind: fed by lists and a watch, and by the answers to the operator's own writes.
//!
//! The rules that make it safe to plan on:
//! - An object is replaced only by a newer one, so an event that was under way when the operator wrote takes nothing back.
//! - A list that failed changes nothing. A list that succeeded replaces everything except what was written after it was made,
//!   which its resource version decides. What is known to be gone it does not bring back.
//! - An object that cannot be read is not an absent object: it is there as one that cannot be read, and its last readable version
//!   counts no more. The others are not affected.
//! - A list that is older than what was known before it was asked for is of a database that was put back to an earlier state. Then
//!   it is the truth, and what was written or deleted before is forgotten.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::sync::Notify;
use tracing::warn;

use crate::observe::seen::{Identity, Kind, Object, Reading, order};

/// How many deleted UIDs are remembered, so that the answer to an earlier write does not bring an object back. An answer is
/// late by seconds; more deletions than this in that time do not happen.
const TOMBSTONES: usize = 1024;

/// Objects by [`Identity::key`].
type Objects<K> = HashMap<Arc<str>, Arc<Object<K>>>;

/// The objects of one kind.
pub struct Cache<K: Kind> {
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

struct State<K: Kind> {
    objects: Objects<K>,
    relist: Option<Relist<K>>,
    /// UIDs, and the version up to which an object with this UID is known to be gone: one that only left the selection may come back.
    tombstones: VecDeque<(Box<str>, u64)>,
    synced: bool,
    served: Served,
    newest: u64,
    put_back: u64,
}

struct Relist<K: Kind> {
    objects: Objects<K>,
    written: Objects<K>,
    /// What was known before the list was asked for: the list is no older, unless the database was put back.
    newest: u64,
}

impl<K: Kind> Cache<K> {
    /// An empty cache.
    pub fn new(changed: Arc<Notify>) -> Self {
        let state = State {
            objects: HashMap::new(),
            relist: None,
            tombstones: VecDeque::new(),
            synced: false,
            served: Served::Unknown,
            newest: 0,
            put_back: 0,
        };
        Self { changed, state: RwLock::new(state) }
    }

    /// Whether the kind was listed completely at least once.
    pub fn synced(&self) -> bool {
        self.read().synced
    }

    /// Whether the API server serves the kind.
    pub fn served(&self) -> Served {
        self.read().served
    }

    /// How often the API server's database was put back to an earlier state.
    pub fn put_back(&self) -> u64 {
        self.read().put_back
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<Object<K>>> {
        self.read().objects.values().cloned().collect()
    }

    /// A list is about to be asked for. One that was under way before is forgotten.
    pub fn list_begins(&self) {
        let mut state = self.write();
        let newest = state.newest;
        state.relist = Some(Relist { objects: HashMap::new(), written: HashMap::new(), newest });
    }

    /// The list has this object.
    pub fn listed(&self, reading: Reading<K>) {
        let mut state = self.write();
        let State { objects, relist: Some(relist), .. } = &mut *state else { return };
        let Some(object) = object(reading) else { return };
        let key = object.id.key().clone();
        complain(objects.get(&key), &object);
        relist.objects.insert(key, Arc::new(object));
    }

    /// The list is complete, and of this resource version.
    pub fn list_ends(&self, version: &str) {
        let version = order(version);
        let mut state = self.write();
        let Some(Relist { objects, written, newest }) = state.relist.take() else { return };
        state.objects = objects;
        if version < newest {
            warn!(
                kind = K::kind(),
                "the API server's database was put back to an earlier state; what was known before is forgotten"
            );
            state.tombstones.clear();
            state.put_back += 1;
            state.newest = version;
        } else {
            for (key, object) in written {
                if object.id.order() > version {
                    state.put(key, object);
                }
            }
            let State { objects, tombstones, .. } = &mut *state;
            let gone: HashMap<&str, u64> = tombstones.iter().map(|(uid, version)| (&**uid, *version)).collect();
            objects.retain(|_, object| gone.get(&*object.id.uid).is_none_or(|version| object.id.order() > *version));
            state.newest = state.newest.max(version);
        }
        state.synced = true;
        state.served = Served::Yes;
        drop(state);
        self.changed.notify_one();
    }

    /// The watch says that there is this object.
    pub fn applied(&self, reading: Reading<K>) {
        let Reading { id, .. } = &reading;
        let (key, version) = (id.key().clone(), id.order());
        let mut state = self.write();
        state.newest = state.newest.max(version);
        let known = state.objects.get(&key);
        if known.is_some_and(|known| known.id.order() > version) {
            return;
        }
        let changed = match object(reading) {
            Some(object) => {
                complain(known, &object);
                let changed = known.is_none_or(|known| !same(known, &object));
                state.objects.insert(key, Arc::new(object));
                changed
            }
            None => state.objects.remove(&key).is_some(),
        };
        drop(state);
        if changed {
            self.changed.notify_one();
        }
    }

    /// The watch says that this object is gone.
    pub fn deleted(&self, id: &Identity) {
        let mut state = self.write();
        state.newest = state.newest.max(id.order());
        if !id.uid.is_empty() {
            state.bury(&id.uid, id.order());
        }
        // A deletion of an earlier object of this name says nothing about the present one.
        let same = state.objects.get(id.key()).is_some_and(|known| known.id.uid == id.uid);
        let changed = same && state.objects.remove(id.key()).is_some();
        drop(state);
        if changed {
            self.changed.notify_one();
        }
    }

    /// The watch has told of everything up to this resource version.
    pub fn told_up_to(&self, version: &str) {
        let mut state = self.write();
        state.newest = state.newest.max(order(version));
    }

    /// Takes in the answer to a write of ours, before the watch tells.
    pub fn wrote(&self, reading: Reading<K>) {
        if reading.ended {
            return self.gone(&reading.id.uid);
        }
        let Some(object) = object(reading).map(Arc::new) else { return };
        let mut state = self.write();
        state.newest = state.newest.max(object.id.order());
        let order = object.id.order();
        if state.tombstones.iter().any(|(uid, version)| *uid == object.id.uid && order <= *version) {
            return;
        }
        let key = object.id.key().clone();
        if let Some(relist) = &mut state.relist {
            relist.written.insert(key.clone(), object.clone());
        }
        state.put(key, object);
    }

    /// The object with this UID is known not to exist.
    pub fn gone(&self, uid: &str) {
        let mut state = self.write();
        state.objects.retain(|_, object| &*object.id.uid != uid);
        if let Some(relist) = &mut state.relist {
            relist.written.retain(|_, object| &*object.id.uid != uid);
        }
        state.bury(uid, u64::MAX);
    }

    /// The API server says that the kind is not installed. What was seen before stays.
    pub fn not_served(&self) {
        let before = std::mem::replace(&mut self.write().served, Served::No);
        if before != Served::No {
            self.changed.notify_one();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kind> State<K> {
    fn put(&mut self, key: Arc<str>, object: Arc<Object<K>>) {
        let newer = object.id.order();
        if self.objects.get(&key).is_none_or(|known| known.id.order() <= newer) {
            self.objects.insert(key, object);
        }
    }

    fn bury(&mut self, uid: &str, version: u64) {
        if self.tombstones.len() == TOMBSTONES {
            self.tombstones.pop_front();
        }
        self.tombstones.push_back((uid.into(), version));
    }
}

/// The object, unless it is of no interest.
fn object<K: Kind>(Reading { id, content, .. }: Reading<K>) -> Option<Object<K>> {
    Some(Object { id, content: content? })
}

/// Says once what of an object cannot be read; again only when all of it could be read in between.
fn complain<K: Kind>(known: Option<&Arc<Object<K>>>, now: &Object<K>) {
    let said = known.is_some_and(|known| known.id.uid == now.id.uid && known.trouble().is_some());
    if let Some(why) = now.trouble().filter(|_| !said) {
        warn!(kind = K::kind(), name = now.id.full_name(), why, "an object cannot be read, or not all of it");
    }
}

/// Whether two versions of an object differ in nothing that is kept.
fn same<K: Kind>(known: &Object<K>, newer: &Object<K>) -> bool {
    known.id.uid == newer.id.uid && known.content == newer.content
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
