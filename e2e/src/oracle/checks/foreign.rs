//! I10: labels, annotations, taints and the cordon of others stay as they are. I8: we do not cordon.

use std::collections::BTreeMap;

use cxi_api::Timestamp;

use crate::oracle::{
    facts::NodeFacts,
    judge::{Check, Found, Invariant},
    world::{Allowed, Change, World},
};

/// Keys that belong to us or to KMM.
const OURS: [&str; 3] = ["cxi.hpe.com", "kmm.node.kubernetes.io", "beta.kmm.node.kubernetes.io"];

/// Prefix of taints that the node lifecycle controller sets by itself.
const CONDITION_TAINTS: &str = "node.kubernetes.io/";

/// Annotations that Kubernetes' own controllers change.
const KUBERNETES: [&str; 2] =
    ["node.alpha.kubernetes.io/ttl", "volumes.kubernetes.io/controller-managed-attach-detach"];

/// The fields of a node that are not ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    taints: Vec<String>,
    unschedulable: bool,
}

#[derive(Default)]
pub(crate) struct Foreign {
    /// As they should be, by name and UID of the node.
    known: BTreeMap<(String, String), Fields>,
}

impl Check for Foreign {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        let Change::Node { name, after: Some(after), .. } = change else { return };
        let fields = Fields::of(after);
        let key = (name.clone(), after.uid.clone());
        let announced = world.allows(at, |allowed| matches!(allowed, Allowed::ForeignEdit(node) if node == name));
        let Some(known) = self.known.insert(key, fields.clone()) else { return };
        if known != fields && !announced {
            if known.unschedulable == fields.unschedulable {
                let message = format!("fields of others changed on {name}: {}", known.difference(&fields));
                found.tell(at, Invariant::ForeignFields, message);
            } else {
                let message = format!("spec.unschedulable of {name} became {}", fields.unschedulable);
                found.tell(at, Invariant::LeastDisturbance, message);
            }
        }
    }
}

impl Fields {
    fn of(node: &NodeFacts) -> Self {
        let foreign = |map: &BTreeMap<String, String>| {
            map.iter()
                .filter(|(key, _)| !is_ours(key) && !KUBERNETES.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let taints = node.taints.iter().filter(|taint| !is_ours(taint) && !taint.starts_with(CONDITION_TAINTS));
        Self {
            labels: foreign(&node.labels),
            annotations: foreign(&node.annotations),
            taints: taints.cloned().collect(),
            unschedulable: node.unschedulable,
        }
    }

    fn difference(&self, now: &Self) -> String {
        let changed = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
            let keys = a.keys().chain(b.keys()).filter(|key| a.get(*key) != b.get(*key));
            keys.cloned().collect::<Vec<_>>().join(" ")
        };
        format!(
            "labels [{}] annotations [{}] taints {:?} -> {:?}",
            changed(&self.labels, &now.labels),
            changed(&self.annotations, &now.annotations),
            self.taints,
            now.taints
        )
    }
}

/// Whether the domain of a key, before the slash, is ours or KMM's.
fn is_ours(key: &str) -> bool {
    key.split_once('/').is_some_and(|(domain, _)| {
        OURS.iter().any(|ours| domain == *ours || domain.strip_suffix(ours).is_some_and(|rest| rest.ends_with('.')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{checks::story::Story, world::Event};
    use rstest::rstest;

    type Edit = fn(&mut NodeFacts);

    #[rstest]
    #[case::our_label(|node: &mut NodeFacts| { node.labels.insert("cxi.hpe.com/driver".into(), "d".into()); }, &[])]
    #[case::our_taint(|node: &mut NodeFacts| node.taints.push("cxi.hpe.com/upgrade-pending=:PreferNoSchedule".into()), &[])]
    #[case::lifecycle(|node: &mut NodeFacts| node.taints.push("node.kubernetes.io/not-ready=:NoSchedule".into()), &[])]
    #[case::label(|node: &mut NodeFacts| { node.labels.remove("rack"); }, &[Invariant::ForeignFields])]
    #[case::similar(|node: &mut NodeFacts| { node.labels.insert("notcxi.hpe.com/x".into(), "1".into()); }, &[Invariant::ForeignFields])]
    #[case::annotation(|node: &mut NodeFacts| { node.annotations.insert("a".into(), "b".into()); }, &[Invariant::ForeignFields])]
    #[case::taint(|node: &mut NodeFacts| node.taints.push("storage=down:NoExecute".into()), &[Invariant::ForeignFields])]
    #[case::cordon(|node: &mut NodeFacts| node.unschedulable = true, &[Invariant::LeastDisturbance])]
    fn a_change(#[case] edit: Edit, #[case] violated: &[Invariant]) {
        for announced in [false, true] {
            let mut story = Story::begin(1);
            if announced {
                story.allow(Allowed::ForeignEdit("n1".into()));
            }
            let mut node = story.node("n1");
            edit(&mut node);
            story.tell(Event::Node(node));
            assert_eq!(story.violated(), if announced { &[] } else { violated });
        }
    }
}
