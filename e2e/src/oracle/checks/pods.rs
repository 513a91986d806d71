//! I6: pods that hold a NIC leave through the Eviction API. I8: pods that do not are left alone.

use cxi_api::{Timestamp, strategy::OnTimeout};

use crate::oracle::{
    facts::PodFacts,
    judge::{Check, Found, Invariant},
    world::{Change, World},
};

/// Reason of the condition that the Eviction API sets. Source: kubernetes `pkg/registry/core/pod/storage/eviction.go`.
const EVICTED: &str = "EvictionByEvictionAPI";

/// Namespace of the operator's and KMM's own pods.
const OWN_NAMESPACE: &str = "cxi-operator";

#[derive(Default)]
pub(crate) struct Pods;

impl Check for Pods {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        let Change::Pod { before: Some(before), after } = change else { return };
        let leaves = !before.terminal && !before.deleted && after.as_ref().is_none_or(|after| after.deleted);
        let last = after.as_ref().unwrap_or(before);
        if !leaves || last.namespace == OWN_NAMESPACE || world.pod_by_hand(at, last) {
            return;
        }
        let Some(node) = &last.node else { return };
        let evicted = last.disruption.as_ref().map(|(reason, _)| reason.as_str());
        if last.requests.contains_key(world.resource_of(node)) {
            holder_left(world, node, last, evicted, at, found);
        } else if evicted == Some(EVICTED) {
            let message = format!("{} on {node} was evicted and holds no NIC", last.path());
            found.tell(at, Invariant::LeastDisturbance, message);
        }
    }
}

fn holder_left(world: &World, node: &str, pod: &PodFacts, disruption: Option<&str>, at: Timestamp, found: &mut Found) {
    // Elsewhere it is the business of the pod's own controller.
    let in_flight = world.phase(node).is_some_and(|phase| !phase.is_settled());
    let forced =
        world.driver_of(node).is_some_and(|driver| driver.spec.update_strategy.drain.on_timeout == OnTimeout::Force);
    if disruption.is_none() && in_flight && !forced {
        let message = format!("{} on {node} was deleted, not evicted", pod.path());
        found.tell(at, Invariant::EvictionOnly, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{
        checks::story::Story,
        world::{Allowed, Event},
    };
    use cxi_api::Phase;
    use rstest::rstest;

    fn leaves(story: &mut Story, mut pod: PodFacts, evicted: bool) {
        story.tell(Event::Pod(pod.clone()));
        pod.deleted = true;
        pod.disruption = evicted.then(|| (EVICTED.to_owned(), None));
        story.tell(Event::Pod(pod));
    }

    #[rstest]
    #[case::evicted(Phase::Evicting, true, &[])]
    #[case::deleted(Phase::Evicting, false, &[Invariant::EvictionOnly])]
    #[case::deleted_elsewhere(Phase::UpToDate, false, &[])]
    fn a_holder(#[case] phase: Phase, #[case] evicted: bool, #[case] violated: &[Invariant]) {
        let mut story = Story::begin(1);
        story.phase("n1", phase);
        let pod = Story::holder("n1");
        leaves(&mut story, pod, evicted);
        assert_eq!(story.violated(), violated);
    }

    #[test]
    fn a_holder_that_vanishes_was_deleted() {
        let mut story = Story::begin(1);
        story.phase("n1", Phase::Evicting);
        let pod = Story::holder("n1");
        story.tell(Event::Pod(pod.clone()));
        story.tell(Event::PodGone(pod.uid));
        assert_eq!(story.violated(), [Invariant::EvictionOnly]);
    }

    #[test]
    fn a_holder_that_ended_may_be_deleted() {
        let mut story = Story::begin(1);
        story.phase("n1", Phase::Evicting);
        let pod = PodFacts { terminal: true, ..Story::holder("n1") };
        leaves(&mut story, pod, false);
        assert_eq!(story.violated(), []);
    }

    #[test]
    fn others_are_not_evicted_unless_the_scenario_does() {
        for by_hand in [false, true] {
            let mut story = Story::begin(1);
            story.phase("n1", Phase::Evicting);
            if by_hand {
                story.allow(Allowed::PodDeletion("jobs/job".into()));
            }
            let pod = PodFacts { requests: std::collections::BTreeMap::new(), ..Story::holder("n1") };
            leaves(&mut story, pod, true);
            assert_eq!(story.violated().is_empty(), by_hand);
        }
    }
}
