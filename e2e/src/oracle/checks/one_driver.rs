//! I4: never the labels of two of our Modules on a node, and a new one only when the old driver is out.

use cxi_api::Timestamp;

use crate::oracle::{
    judge::{Check, Found, Invariant},
    world::{Change, World},
};

#[derive(Default)]
pub(crate) struct OneDriver;

impl Check for OneDriver {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        let Change::Node { name, before, after: Some(after) } = change else { return };
        if world.labels_by_hand(at, name) {
            return;
        }
        let now = after.modules();
        let was = before.as_ref().map(|before| before.modules()).unwrap_or_default();
        let set: Vec<&str> = now.iter().copied().filter(|module| !was.contains(module)).collect();
        if set.is_empty() {
            return;
        }
        if now.len() > 1 {
            let message = format!("{name} carries the labels of {}", now.join(" and "));
            found.tell(at, Invariant::OneDriver, message);
        }
        let loaded = world.machines.get(name).and_then(|machine| machine.owner.as_deref());
        if let Some(loaded) = loaded.filter(|loaded| !set.contains(loaded)) {
            let message = format!("{name} got the label of {} while modules of {loaded} were loaded", set.join(", "));
            found.tell(at, Invariant::OneDriver, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{
        checks::story::Story,
        world::{Allowed, Event},
    };

    /// The node with the label of the new revision, and that of the old one if wanted.
    fn labelled(story: &Story, old: bool) -> Event {
        let mut node = story.closed("n1");
        if !old {
            node.labels.remove(&Story::label(&story.old));
        }
        node.labels.insert(Story::label(&story.new), story.new.to_string());
        Event::Node(node)
    }

    fn between(story: &mut Story) {
        let mut node = story.closed("n1");
        node.labels.remove(&Story::label(&story.old));
        story.tell(Event::Node(node));
    }

    #[test]
    fn remove_unload_set_is_the_order() {
        let mut story = Story::begin(1);
        let old = story.old.clone();
        between(&mut story);
        story.unloaded("n1", &old);
        let event = labelled(&story, false);
        story.tell(event);
        assert_eq!(story.violated(), []);
    }

    #[test]
    fn a_label_before_the_unload_is_too_early() {
        let mut story = Story::begin(1);
        between(&mut story);
        let event = labelled(&story, false);
        story.tell(event);
        assert_eq!(story.violated(), [Invariant::OneDriver]);
    }

    #[test]
    fn two_labels_are_two_drivers_except_by_hand() {
        for by_hand in [false, true] {
            let mut story = Story::begin(1);
            let old = story.old.clone();
            let closed = story.closed("n1");
            story.tell(Event::Node(closed));
            story.unloaded("n1", &old);
            if by_hand {
                story.allow(Allowed::OurLabels("n1".into()));
            }
            let event = labelled(&story, true);
            story.tell(event);
            assert_eq!(story.violated().is_empty(), by_hand);
        }
    }
}
