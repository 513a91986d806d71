//! I3: a gate carries only a revision whose driver is in the kernel of the running boot.

use std::collections::BTreeMap;

use cxi_api::{Timestamp, driver::SourceType, names};

use crate::{
    oracle::{
        judge::{Check, Found, Invariant},
        world::{Change, Machine, World, seconds_between},
    },
    soft_node::HOST,
};

/// How long after a boot, or after somebody else took the driver out, the operator may take to close the gate.
const SETTLE: i64 = 20;

#[derive(Default)]
pub(crate) struct Advertise {
    /// Nodes whose gate does not say the truth, since when.
    wrong: BTreeMap<String, Timestamp>,
}

impl Check for Advertise {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        if let Change::Node { name, before, after: Some(after) } = change
            && !world.labels_by_hand(at, name)
            && let Some(machine) = world.machines.get(name)
        {
            for (driver, revision) in after.gates() {
                let was = before.as_ref().and_then(|before| before.gate(driver));
                if was != Some(revision) && !is_true(world, name, driver, revision, machine) {
                    found.tell(at, Invariant::NoFalseAdvertising, explain(name, driver, revision, machine));
                }
            }
            let version = |labels: &BTreeMap<String, String>| labels.get(names::DRIVER_VERSION_LABEL).cloned();
            let now = version(&after.labels);
            let is = machine.version.as_deref().map(names::label_value);
            if now.is_some() && now != before.as_ref().and_then(|b| version(&b.labels)) && is.is_some() && now != is {
                let message = format!("{name} is labelled with driver version {now:?} but runs {is:?}");
                found.tell(at, Invariant::NoFalseAdvertising, message);
            }
        }
        if matches!(change, Change::Tick) {
            self.watch(world, at, found);
        }
    }
}

impl Advertise {
    fn watch(&mut self, world: &World, at: Timestamp, found: &mut Found) {
        for (name, node) in &world.nodes {
            let Some(machine) = world.machines.get(name) else { continue };
            let wrong = node.gates().find(|(driver, revision)| !is_true(world, name, driver, revision, machine));
            let Some((driver, revision)) = wrong.filter(|_| node.ready) else {
                self.wrong.remove(name);
                continue;
            };
            let since = *self.wrong.entry(name.clone()).or_insert(at);
            let since = machine.changed.map_or(since, |changed| changed.max(since));
            if seconds_between(since, at) >= SETTLE && world.operated_for(at, SETTLE) && !world.labels_by_hand(at, name)
            {
                found.tell(at, Invariant::NoFalseAdvertising, explain(name, driver, revision, machine));
            }
        }
        self.wrong.retain(|name, _| world.nodes.contains_key(name));
    }
}

fn is_true(world: &World, node: &str, driver: &str, revision: &str, machine: &Machine) -> bool {
    let described = world.drivers.get(driver).is_some_and(|driver| driver.spec.source.kind == SourceType::Preinstalled);
    let record = world.cxi.get(node).and_then(|facts| facts.rollout.as_ref());
    let verified = record.and_then(|record| record.host_revision.as_ref()).is_some_and(|of| of.as_str() == revision);
    let preinstalled = described || (verified && machine.version.is_some() && machine.owner.as_deref() == Some(HOST));
    let owned = machine.owner.as_deref().is_some_and(|owner| owner.strip_prefix("cxi-") == Some(revision));
    preinstalled || (owned && machine.version.is_some())
}

fn explain(node: &str, driver: &str, revision: &str, machine: &Machine) -> String {
    let loaded = machine.owner.as_deref().unwrap_or("nothing");
    format!("the gate of {driver} on {node} says {revision}, but in boot {} there is {loaded}", machine.boot_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::{checks::story::Story, world::Event},
        truth::Fact,
    };

    #[test]
    fn a_gate_is_opened_for_what_is_loaded_only() {
        for (load, violated) in [(true, vec![]), (false, vec![Invariant::NoFalseAdvertising])] {
            let mut story = Story::begin(1);
            let (old, new) = (story.old.clone(), story.new.clone());
            story.unloaded("n1", &old);
            let node = story.closed("n1");
            story.tell(Event::Node(node));
            if load {
                story.loaded("n1", &new);
            }
            let mut node = story.closed("n1");
            node.labels.insert(names::device_plugin_gate("d"), new.to_string());
            story.tell(Event::Node(node));
            assert_eq!(story.violated(), violated);
        }
    }

    #[test]
    fn a_gate_that_outlives_a_reboot_is_closed_in_time_or_false() {
        for (reloaded, violated) in [(true, vec![]), (false, vec![Invariant::NoFalseAdvertising])] {
            let mut story = Story::begin(1);
            let old = story.old.clone();
            story.fact("n1", Fact::Booted { boot_id: "b2".into(), kernel: "6.1".into() });
            story.pass(SETTLE - 2);
            assert_eq!(story.violated(), []);
            if reloaded {
                story.loaded("n1", &old);
            }
            story.pass(SETTLE);
            let false_gates: Vec<_> =
                story.violated().into_iter().filter(|i| *i == Invariant::NoFalseAdvertising).collect();
            assert_eq!(false_gates, violated);
        }
    }

    #[test]
    fn a_failed_load_of_the_revision_is_not_the_revision() {
        let mut story = Story::begin(1);
        let (old, new) = (story.old.clone(), story.new.clone());
        let node = story.closed("n1");
        story.tell(Event::Node(node));
        story.unloaded("n1", &old);
        story.fact(
            "n1",
            Fact::LoadFailed {
                owner: names::module_name(&new),
                version: "13.1.0".into(),
                message: String::new(),
                left: vec!["cxi_sbl".into()],
            },
        );
        let mut node = story.closed("n1");
        node.labels.insert(names::device_plugin_gate("d"), new.to_string());
        story.tell(Event::Node(node));
        assert_eq!(story.violated(), [Invariant::NoFalseAdvertising]);
    }
}
