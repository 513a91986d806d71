//! Who may stay connected. There are so many places, so many of them for one address, and some for the node alone. A
//! newcomer that finds none gets that of a connection that waits: an idle client cannot keep out the others.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at a time, but for those of the node. Prometheus keeps one open.
pub const MAX_CONNECTIONS: usize = 64;

/// Of them from one address.
pub const MAX_CONNECTIONS_PER_ADDRESS: usize = 16;

/// Connections at a time from the node's own addresses: a kubelet needs one for each probe.
pub const MAX_CONNECTIONS_OF_NODE: usize = 16;

/// The places.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    next: u64,
    by: BTreeMap<u64, Place>,
}

struct Place {
    from: IpAddr,
    of_node: bool,
    /// Since when it waits, for a request or for its client to read the answer; absent while it is being answered.
    waits_since: Option<Instant>,
    leave: CancellationToken,
}

/// A connection's place, until this is dropped.
pub struct Visit {
    places: Places,
    number: u64,
    leave: CancellationToken,
}

impl Places {
    /// A place for a connection from there; `None` when there is none and no connection that has one waits.
    pub fn admit(&self, from: IpAddr, of_node: bool) -> Option<Visit> {
        // Where one socket serves both, an IPv4 address comes in the form of IPv6.
        let from = from.to_canonical();
        let mut taken = self.lock();
        let of_pool = taken.by.values().filter(|place| place.of_node == of_node).count();
        let of_address = taken.by.values().filter(|place| place.of_node == of_node && place.from == from).count();
        let (all, each) = if of_node {
            (MAX_CONNECTIONS_OF_NODE, MAX_CONNECTIONS_OF_NODE)
        } else {
            (MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS)
        };
        if of_address >= each {
            taken.replace(|place| place.of_node == of_node && place.from == from)?;
        } else if of_pool >= all {
            let most = taken.most(of_node)?;
            taken.replace(|place| place.of_node == of_node && place.from == most)?;
        }
        let (number, leave) = (taken.next, CancellationToken::new());
        taken.next += 1;
        let place = Place { from, of_node, waits_since: Some(Instant::now()), leave: leave.clone() };
        taken.by.insert(number, place);
        drop(taken);
        Some(Visit { places: self.clone(), number, leave })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Sends away the connection that has waited longest.
    fn replace(&mut self, among: impl Fn(&Place) -> bool) -> Option<()> {
        let waits = |(number, place): (&u64, &Place)| Some((place.waits_since.filter(|_| among(place))?, *number));
        let (_, number) = self.by.iter().filter_map(waits).min()?;
        self.by.remove(&number)?.leave.cancel();
        Some(())
    }

    /// The address with the most places among those of which one waits.
    fn most(&self, of_node: bool) -> Option<IpAddr> {
        let mut counts: BTreeMap<IpAddr, (usize, bool)> = BTreeMap::new();
        for place in self.by.values().filter(|place| place.of_node == of_node) {
            let (count, waits) = counts.entry(place.from).or_default();
            *count += 1;
            *waits |= place.waits_since.is_some();
        }
        let waiting = counts.into_iter().filter(|(_, (_, waits))| *waits);
        waiting.max_by_key(|(_, (count, _))| *count).map(|(from, _)| from)
    }
}

impl Visit {
    /// A request is being answered: the place is safe.
    pub fn begin(&self) {
        self.waits(None);
    }

    /// It was answered.
    pub fn end(&self) {
        self.waits(Some(Instant::now()));
    }

    /// Returns when another connection has the place.
    pub async fn replaced(&self) {
        self.leave.cancelled().await;
    }

    /// Since when it waits; absent while it is being answered.
    pub fn waits_since(&self) -> Option<Instant> {
        self.places.lock().by.get(&self.number)?.waits_since
    }

    fn waits(&self, since: Option<Instant>) {
        if let Some(place) = self.places.lock().by.get_mut(&self.number) {
            place.waits_since = since;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.places.lock().by.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn fill(places: &Places, last: u8) -> Vec<Visit> {
        (0..MAX_CONNECTIONS_PER_ADDRESS).map(|_| places.admit(from(last), false).unwrap()).collect()
    }

    #[tokio::test]
    async fn one_address_has_so_many_and_gives_up_its_own_for_more() {
        let places = Places::default();
        let visits = fill(&places, 1);
        let other = places.admit("::ffff:10.0.0.2".parse().unwrap(), false).unwrap();
        let more = places.admit("::ffff:10.0.0.1".parse().unwrap(), false).unwrap();
        assert!(visits[0].leave.is_cancelled(), "the one that waited longest, of the same address");
        assert!(!visits[1].leave.is_cancelled() && !other.leave.is_cancelled() && !more.leave.is_cancelled());
        drop((visits, other, more));
        assert!(places.lock().by.is_empty(), "who is gone is forgotten");
    }

    #[tokio::test]
    async fn who_holds_places_keeps_out_neither_others_nor_the_node() {
        let places = Places::default();
        let first = places.admit(from(99), false).unwrap();
        let held: Vec<_> = (1..=4).map(|last| fill(&places, last)).collect();
        assert!(!first.leave.is_cancelled(), "who has few is not sent away for who has many");
        let scrape = places.admit(from(100), false).unwrap();
        scrape.begin();
        let probes: Vec<_> = (0..MAX_CONNECTIONS_OF_NODE).map(|_| places.admit(from(7), true).unwrap()).collect();
        for visit in held.iter().flatten().chain(&probes) {
            visit.begin();
        }
        let last = places.admit(from(101), false).unwrap();
        assert!(first.leave.is_cancelled(), "the only one that waits");
        last.begin();
        assert!(places.admit(from(102), false).is_none(), "everybody is being answered");
        assert!(places.admit(from(7), true).is_none());
        probes[3].end();
        assert!(places.admit(from(7), true).is_some() && probes[3].leave.is_cancelled());
    }
}
