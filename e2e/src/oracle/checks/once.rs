//! I5: whatever happens to the operator, no pod is evicted twice and no module unloaded twice.

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::{Timestamp, node::EvictionRecord};

use crate::{
    oracle::{
        facts::CxiFacts,
        judge::{Check, Found, Invariant},
        world::{Change, World},
    },
    truth::Fact,
};

#[derive(Default)]
pub(crate) struct Once {
    /// The KMM Module that was last unloaded on a node, if nothing was loaded since.
    unloaded: BTreeMap<String, String>,
    /// When each pod was first disrupted.
    disrupted: BTreeMap<String, Timestamp>,
}

impl Check for Once {
    fn observe(&mut self, _: &World, change: &Change, at: Timestamp, found: &mut Found) {
        match change {
            Change::Truth(record) => match &record.fact {
                Fact::Unloaded { owner, .. } => {
                    let before = self.unloaded.insert(record.node.clone(), owner.clone());
                    if before.as_ref() == Some(owner) {
                        let message = format!("{owner} was unloaded twice on {} at {}", record.node, record.at);
                        found.tell(at, Invariant::Once, message);
                    }
                }
                Fact::Booted { .. }
                | Fact::Removed
                | Fact::Loaded { .. }
                | Fact::LoadedAlready { .. }
                | Fact::LoadFailed { .. } => {
                    self.unloaded.remove(&record.node);
                }
                _ => {}
            },
            Change::Pod { after: Some(pod), .. } => {
                let Some((_, Some(when))) = &pod.disruption else { return };
                let first = *self.disrupted.entry(pod.uid.clone()).or_insert(*when);
                if first != *when {
                    let message = format!("{} was disrupted at {first} and again at {when}", pod.path());
                    found.tell(at, Invariant::Once, message);
                }
            }
            Change::Pod { before: Some(pod), after: None } => {
                self.disrupted.remove(&pod.uid);
            }
            Change::Cxi { name, after: Some(after), .. } => {
                let mut seen = BTreeSet::new();
                for eviction in evictions(after) {
                    if !seen.insert(&eviction.uid) {
                        let message =
                            format!("{name} records two evictions of {}/{}", eviction.namespace, eviction.name);
                        found.tell(at, Invariant::Once, message);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The pods that a node's transaction set out to evict.
fn evictions(node: &CxiFacts) -> impl Iterator<Item = &EvictionRecord> {
    let rollout = node.rollout.iter();
    rollout.filter_map(|rollout| rollout.transaction.as_ref()).flat_map(|transaction| &transaction.evictions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{checks::story::Story, world::Event};
    use cxi_api::{Phase, Why};
    use jiff::ToSpan;

    #[test]
    fn an_unload_needs_a_load_before_the_next() {
        for (load, violated) in [(true, vec![]), (false, vec![Invariant::Once])] {
            let mut story = Story::begin(1);
            let old = story.old.clone();
            story.unloaded("n1", &old);
            if load {
                story.loaded("n1", &old);
            }
            story.unloaded("n1", &old);
            assert_eq!(story.violated(), violated);
        }
    }

    #[test]
    fn a_pod_is_disrupted_once() {
        let mut story = Story::begin(1);
        let mut pod = Story::holder("n1");
        pod.deleted = true;
        for seconds in [0, 0, 5] {
            let when = Timestamp::UNIX_EPOCH + seconds.seconds();
            pod.disruption = Some(("EvictionByEvictionAPI".into(), Some(when)));
            story.tell(Event::Pod(pod.clone()));
        }
        assert_eq!(story.violated(), [Invariant::Once]);
    }

    #[test]
    fn a_pod_is_recorded_once() {
        let mut story = Story::begin(1);
        let record = EvictionRecord { namespace: "jobs".into(), name: "job".into(), uid: "u".into() };
        let mut rollout = story.rollout(Phase::Pending);
        let mut transaction = story.transaction(Why::Wanted);
        transaction.evictions = vec![record.clone(), record];
        rollout.transaction = Some(transaction);
        story.cxi("n1", rollout);
        assert_eq!(story.violated(), [Invariant::Once]);
    }
}
