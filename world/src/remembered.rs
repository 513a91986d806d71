//! What the operator knows beside the objects: recent uncached looks, evictions that were refused or are under way, and the
//! DaemonSets as they were last applied. Losing it costs a second look, a repeated question or a repeated write that changes
//! nothing; never a wrong step.

use std::collections::{BTreeSet, HashMap, HashSet};

use cxi_api::{RevisionId, Timestamp};
use cxi_rollout::{
    action::Announcement,
    looks::Looks,
    world::{AgentPolicy, Injection, Refusal},
};

/// What is remembered.
#[derive(Clone, Default)]
pub struct Remembered {
    /// Looks by node.
    pub looks: Looks,
    /// How often the clock had been set when they were made.
    pub steps: u64,
    /// How often the API server's database had been put back to an earlier state when any of this was learned.
    pub put_back: u64,
    /// Evictions refused, by pod UID.
    pub refusals: HashMap<String, Refused>,
    /// UIDs of pods whose eviction was accepted.
    pub evicted: HashSet<String>,
    /// DaemonSets as applied, by name.
    pub applied: HashMap<String, Applied>,
    /// Why the API server refused to store the Module of a revision, in its words; or why there is no Containerfile for it.
    pub refused_modules: HashMap<RevisionId, String>,
    /// Which notices were said and are still so.
    pub told: Vec<Announcement>,
    /// Whether agents are kept to their own nodes, as of the last look.
    pub agent_policy: AgentPolicy,
    /// Whether the cluster puts retry handlers into pods, as of the last look.
    pub injection: Injection,
}

/// A refused eviction and how often it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The last refusal.
    pub refusal: Refusal,
    /// How many in a row.
    pub times: u32,
}

/// A DaemonSet as it was after it was last applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// UID.
    pub uid: String,
    /// metadata.generation; it changes with every edit of the spec.
    pub generation: i64,
    /// Hash of what was applied.
    pub hash: String,
}

impl Remembered {
    /// Forgets looks that were made before the clock was last set: they are not as far apart as it seems.
    pub fn clock_stepped(&mut self, steps: u64) {
        if std::mem::replace(&mut self.steps, steps) != steps {
            self.looks.clear();
        }
    }

    /// Forgets what was learned before the API server's database was last put back to an earlier state: what was evicted or applied
    /// then is not so any more.
    pub fn database_put_back(&mut self, times: u64) {
        if std::mem::replace(&mut self.put_back, times) != times {
            self.looks.clear();
            self.refusals.clear();
            self.evicted.clear();
            self.applied.clear();
            self.refused_modules.clear();
        }
    }

    /// Forgets what is about nodes, phases and pods that are no more. `phases` has the nodes whose looks still matter with
    /// the time since when; `pods` the UIDs of all holders.
    pub fn forget(&mut self, phases: &HashMap<String, Timestamp>, pods: &BTreeSet<String>) {
        self.looks.retain(|node| phases.get(node).copied());
        self.refusals.retain(|uid, _| pods.contains(uid));
        self.evicted.retain(|uid| pods.contains(uid));
    }
}

#[cfg(test)]
mod tests {
    use cxi_rollout::world::Look;

    use super::*;

    fn look(second: i64) -> Look {
        let at = Timestamp::from_second(second).unwrap();
        Look { step: at, at, allocatable: 0, plugin_pods: 0, retry_handler_pods: 0, holders: Vec::new(), report: None }
    }

    fn seconds(memory: &Remembered) -> Vec<i64> {
        memory.looks.at("n1").iter().map(|look| look.at.as_second()).collect()
    }

    #[test]
    fn looks_from_before_a_step_of_the_clock_are_forgotten() {
        let mut memory = Remembered::default();
        let since = Timestamp::from_second(1).unwrap();
        memory.clock_stepped(0);
        memory.looks.add("n1", since, look(10));
        memory.clock_stepped(0);
        assert_eq!(seconds(&memory), [10]);
        memory.clock_stepped(1);
        assert!(memory.looks.is_empty());
        memory.looks.add("n1", since, look(300));
        memory.clock_stepped(1);
        assert_eq!(seconds(&memory), [300]);
    }

    #[test]
    fn what_was_done_before_the_database_was_put_back_is_forgotten() {
        let mut memory = Remembered::default();
        let since = Timestamp::from_second(1).unwrap();
        let learn = |memory: &mut Remembered| {
            memory.looks.add("n1", since, look(10));
            memory.evicted.insert("pod".into());
            memory.applied.insert("agent".into(), Applied { uid: "u".into(), generation: 1, hash: String::new() });
        };
        learn(&mut memory);
        memory.database_put_back(0);
        assert!(memory.evicted.contains("pod"));
        memory.database_put_back(1);
        assert!(memory.looks.is_empty() && memory.evicted.is_empty() && memory.applied.is_empty());
        learn(&mut memory);
        memory.database_put_back(1);
        assert!(memory.evicted.contains("pod") && memory.applied.contains_key("agent"));
    }
}
