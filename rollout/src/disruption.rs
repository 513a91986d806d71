//! Arithmetic over PodDisruptionBudgets: whether a set of evictions would be allowed, before any capacity is taken away.

use std::collections::BTreeMap;

use cxi_api::Reason;

use crate::world::{DisruptionBudget, Holder};

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

/// What is in the way of evicting all of these pods, if anything is.
pub fn short_of(budgets: &[DisruptionBudget], holders: &[&Holder]) -> Option<Obstacle> {
    Allowance::new(budgets).obstacle(holders)
}

fn key(budget: &DisruptionBudget) -> (String, String) {
    (budget.namespace.clone(), budget.name.clone())
}

fn needed(budget: &DisruptionBudget, holders: &[&Holder]) -> i32 {
    let covered = holders.iter().filter(|holder| holder.ends.is_none() && budget.covers.contains(&holder.uid));
    i32::try_from(covered.count()).unwrap_or(i32::MAX)
}
