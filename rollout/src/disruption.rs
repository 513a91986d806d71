//! What is in the way of emptying a node, as far as it can be known before any capacity is taken away: pods that cannot or
//! must not be evicted, and the arithmetic over PodDisruptionBudgets.

use std::collections::BTreeMap;

use cxi_api::{
    Reason,
    strategy::{Drain, DrainPolicy},
};

use crate::{
    selector,
    world::{DisruptionBudget, Holder},
};

/// Evictions that the budgets still allow, as nodes are admitted one after the other.
#[derive(Clone, Debug)]
pub struct Allowance<'a> {
    budgets: &'a [DisruptionBudget],
    taken: BTreeMap<(String, String), i32>,
}

/// What is in the way: reason, object (kind, name) and a sentence.
pub type Obstacle = (Reason, (&'static str, String), String);

impl<'a> Allowance<'a> {
    /// All that the budgets allow at present.
    pub fn new(budgets: &'a [DisruptionBudget]) -> Self {
        Self { budgets, taken: BTreeMap::new() }
    }

    /// What is in the way of evicting all of these pods, if anything is. Pods that end already do not count.
    pub fn obstacle(&self, holders: &[&Holder]) -> Option<Obstacle> {
        for holder in holders.iter().filter(|holder| holder.ends.is_none()) {
            let mut covering = self.budgets.iter().filter(|budget| budget.covers.contains(&holder.uid));
            if let (Some(one), Some(two)) = (covering.next(), covering.next()) {
                let pod = format!("{}/{}", holder.namespace, holder.name);
                let message = format!(
                    "pod {pod} is covered by the PodDisruptionBudgets {} and {}; the Eviction API refuses such pods",
                    one.name, two.name
                );
                return Some((Reason::MultipleDisruptionBudgets, ("Pod", pod), message));
            }
        }
        self.budgets.iter().find_map(|budget| {
            let needed = needed(budget, holders);
            let left = budget.allowed - self.taken.get(&key(budget)).copied().unwrap_or(0);
            (needed > left.max(0)).then(|| {
                let name = format!("{}/{}", budget.namespace, budget.name);
                let message =
                    format!("PodDisruptionBudget {name} allows {} evictions now, the node needs {needed}", left.max(0));
                (Reason::DisruptionBudget, ("PodDisruptionBudget", name), message)
            })
        })
    }

    /// Sets aside what the eviction of these pods needs.
    pub fn take(&mut self, holders: &[&Holder]) {
        for budget in self.budgets {
            *self.taken.entry(key(budget)).or_default() += needed(budget, holders);
        }
    }
}

/// What makes it pointless to begin with emptying a node of these pods, if anything does.
pub fn in_the_way(drain: &Drain, holders: &[&Holder], allowance: &Allowance<'_>) -> Option<Obstacle> {
    let waits = drain.policy == DrainPolicy::WaitForCompletion;
    for holder in holders {
        let name = holder.full_name();
        if holder.is_static {
            let message = format!("static pod {name} cannot be evicted; take its manifest off the node");
            return Some((Reason::StaticPodHolder, ("Pod", name), message));
        }
        if let Some((_, controller)) = holder.controller.as_ref().filter(|(kind, _)| kind == "DaemonSet") {
            let message = format!("pod {name} belongs to DaemonSet {controller}, which would start it again at once");
            return Some((Reason::DaemonSetHolder, ("DaemonSet", controller.clone()), message));
        }
        if !waits && is_protected(drain, holder) {
            let message = format!("pod {name} is protected (drain.protectedPods); the node waits until it has ended");
            return Some((Reason::ProtectedPod, ("Pod", name), message));
        }
    }
    if waits { None } else { allowance.obstacle(holders) }
}

/// Whether a pod is one that must never be evicted.
pub fn is_protected(drain: &Drain, holder: &Holder) -> bool {
    drain.protected_pods.as_ref().is_some_and(|selector| selector::matches(selector, &holder.labels))
}

fn key(budget: &DisruptionBudget) -> (String, String) {
    (budget.namespace.clone(), budget.name.clone())
}

/// Evictions that must be allowed before a node is closed: all of them at once, or as many as the budget can ever allow; the
/// other pods then follow one after the other, as their replacements become ready elsewhere.
fn needed(budget: &DisruptionBudget, holders: &[&Holder]) -> i32 {
    let covered = holders.iter().filter(|holder| holder.ends.is_none() && budget.covers.contains(&holder.uid));
    i32::try_from(covered.count()).unwrap_or(i32::MAX).min(budget.most.max(1))
}
