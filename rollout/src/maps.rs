//! Maps and sets by names and UIDs that live as long as a plan. There are hundreds of thousands of look-ups in a plan. The hash has a
//! random seed, so the names that a tenant gives do not collide on purpose.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// A map of a plan.
pub type Map<K, V> = HashMap<K, V, RandomState>;

/// A set of a plan.
pub type Set<K> = HashSet<K, RandomState>;
