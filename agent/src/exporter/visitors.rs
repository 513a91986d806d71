//! Who may connect: so many from one address, so that nobody keeps out the others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections from one address. Prometheus needs one, a kubelet one for each probe.
pub const EACH: usize = 16;

/// How many connections there are from which address.
#[derive(Clone, Debug, Default)]
pub struct Visitors(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One connection; it counts until this is dropped.
#[derive(Debug)]
pub struct Visit {
    visitors: Visitors,
    from: IpAddr,
}

impl Visitors {
    /// A connection from there; `None` when there are too many already.
    pub fn admit(&self, from: IpAddr) -> Option<Visit> {
        // Where one socket serves both, an IPv4 address comes in the form of IPv6.
        let from = from.to_canonical();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from).or_default();
        if *count >= EACH {
            return None;
        }
        *count += 1;
        Some(Visit { visitors: self.clone(), from })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut counts = self.visitors.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_so_many_and_leaves_the_others_theirs() {
        let visitors = Visitors::default();
        let (one, other) = ("10.0.0.1".parse().unwrap(), "::ffff:10.0.0.2".parse().unwrap());
        let mut visits: Vec<_> = (0..EACH).map(|_| visitors.admit(one).unwrap()).collect();
        assert!(visitors.admit(one).is_none());
        assert!(visitors.admit("::ffff:10.0.0.1".parse().unwrap()).is_none(), "the same address");
        let visit = visitors.admit(other).unwrap();
        visits.pop();
        visits.push(visitors.admit(one).unwrap());
        drop((visit, visits));
        assert!(visitors.0.lock().unwrap().is_empty(), "who is gone is forgotten");
    }
}
