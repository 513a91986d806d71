//! I2: the label that keeps a driver loaded goes only when nobody holds the device and none is offered.

use cxi_api::Timestamp;

use crate::{
    oracle::{
        judge::{Check, Found, Invariant},
        world::{Change, World, seconds_between},
    },
    truth::Fact,
};

/// For so long the watches of Nodes and Pods may disagree about which came first.
const LAG: i64 = 1;

/// A pod that seemed to hold the device when the label went.
struct Suspect {
    at: Timestamp,
    node: String,
    uid: String,
}

#[derive(Default)]
pub(crate) struct Pull {
    suspects: Vec<Suspect>,
}

impl Check for Pull {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        match change {
            Change::Node { name, before: Some(before), after: Some(after) } if before.uid == after.uid => {
                let left = after.modules();
                let removed = before.modules().into_iter().any(|module| !left.contains(&module));
                if removed && !world.labels_by_hand(at, name) {
                    let resource = world.resource_of(name);
                    self.label_removed(world, name, after.allocatable.get(resource).copied(), at, found);
                }
            }
            Change::Truth(record) => {
                if let Fact::UnloadRefused { pods, owner, .. } = &record.fact
                    && !pods.is_empty()
                    && !world.labels_by_hand(at, &record.node)
                {
                    let message = format!("{owner} was to be unloaded on {} under {}", record.node, pods.join(", "));
                    found.tell(at, Invariant::NoPullUnderLoad, message);
                }
            }
            _ => {}
        }
        self.convict(world, at, found);
    }
}

impl Pull {
    fn label_removed(&mut self, world: &World, node: &str, allocatable: Option<i64>, at: Timestamp, found: &mut Found) {
        let resource = world.resource_of(node);
        if let Some(count) = allocatable.filter(|count| *count > 0) {
            let message = format!("KMM's label was removed from {node} while {count} {resource} were allocatable");
            found.tell(at, Invariant::NoPullUnderLoad, message);
        }
        let holders = world.machines.get(node).map(|machine| &machine.holders);
        for pod in holders.into_iter().flat_map(|holders| holders.values()) {
            let message = format!("KMM's label was removed from {node} while {pod} had a device open");
            found.tell(at, Invariant::NoPullUnderLoad, message);
        }
        let bound = world.pods.values().filter(|pod| pod.node.as_deref() == Some(node) && pod.holds(resource));
        self.suspects.extend(bound.map(|pod| Suspect { at, node: node.to_owned(), uid: pod.uid.clone() }));
    }

    /// Suspects that are still there after the lag were there when the label went.
    fn convict(&mut self, world: &World, at: Timestamp, found: &mut Found) {
        self.suspects.retain(|suspect| {
            let Some(pod) = world.pods.get(&suspect.uid).filter(|pod| !pod.terminal) else { return false };
            let sure = seconds_between(suspect.at, at) >= LAG;
            if sure {
                let message = format!("KMM's label was removed from {} with {} on it", suspect.node, pod.path());
                found.tell(at, Invariant::NoPullUnderLoad, message);
            }
            !sure
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{
        checks::story::Story,
        facts::NodeFacts,
        world::{Allowed, Event},
    };

    fn without_label(story: &Story, node: NodeFacts) -> Event {
        let mut node = node;
        node.labels.remove(&Story::label(&story.old));
        Event::Node(node)
    }

    fn closed(story: &mut Story) {
        let node = story.closed("n1");
        story.tell(Event::Node(node));
    }

    #[test]
    fn an_empty_closed_node_may_be_unloaded() {
        let mut story = Story::begin(1);
        closed(&mut story);
        let event = without_label(&story, story.closed("n1"));
        story.tell(event);
        story.pass(3);
        assert_eq!(story.violated(), []);
    }

    #[test]
    fn a_node_that_still_offers_nics_may_not() {
        let mut story = Story::begin(1);
        let event = without_label(&story, story.node("n1"));
        story.tell(event);
        assert!(story.violated().contains(&Invariant::NoPullUnderLoad));
    }

    #[test]
    fn a_node_with_an_open_device_may_not() {
        let mut story = Story::begin(1);
        closed(&mut story);
        story.fact("n1", Fact::Opened { uid: "u".into(), pod: "jobs/job".into() });
        let event = without_label(&story, story.closed("n1"));
        story.tell(event);
        assert_eq!(story.violated(), [Invariant::NoPullUnderLoad]);
    }

    #[test]
    fn a_node_with_a_bound_pod_may_not_but_one_that_just_ended_is_no_pod() {
        for (ends, violated) in [(false, vec![Invariant::NoPullUnderLoad]), (true, vec![])] {
            let mut story = Story::begin(1);
            closed(&mut story);
            let mut pod = Story::holder("n1");
            story.tell(Event::Pod(pod.clone()));
            let event = without_label(&story, story.closed("n1"));
            story.tell(event);
            pod.terminal = ends;
            story.tell(Event::Pod(pod));
            story.pass(2);
            assert_eq!(story.violated(), violated);
        }
    }

    #[test]
    fn an_unload_that_met_a_pod_is_a_violation_by_whomever_it_was_seen() {
        let refused = |pods: &[&str]| Fact::UnloadRefused {
            owner: "cxi-x".into(),
            pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
            processes: vec!["lnetd".into()],
        };
        let mut story = Story::begin(1);
        story.fact("n1", refused(&[]));
        assert_eq!(story.violated(), [], "a host process is not a pod");
        story.fact("n1", refused(&["jobs/job"]));
        assert_eq!(story.violated(), [Invariant::NoPullUnderLoad]);
    }

    #[test]
    fn what_the_administrator_does_by_hand_is_not_ours() {
        let mut story = Story::begin(1);
        story.allow(Allowed::OurLabels("n1".into()));
        let event = without_label(&story, story.node("n1"));
        story.tell(event);
        assert!(!story.violated().contains(&Invariant::NoPullUnderLoad));
    }
}
