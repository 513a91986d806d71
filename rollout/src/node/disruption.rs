//! What is in the way of emptying a node, as far as it can be known before any capacity is taken away: pods that cannot or
//! must not be evicted, and the arithmetic over PodDisruptionBudgets, as the Eviction API does it (kube-apiserver
//! `pkg/registry/core/pod/storage/eviction.go`).

use cxi_api::{
    Reason, Timestamp,
    strategy::{DrainPolicy, OnTimeout},
};

use crate::{
    blocked::Blocked,
    intent::Drain,
    maps::Map,
    world::{DisruptionBudget, Holder, PodHealth},
};

/// PodDisruptionBudgets by the pods that they cover.
#[derive(Clone, Debug, Default)]
pub struct Budgets<'a> {
    all: &'a [DisruptionBudget],
    of: Map<&'a str, Cover>,
}

/// The budgets over one pod, by their places in the list. There may be more than two: the Eviction API refuses a pod with two.
#[derive(Clone, Copy, Debug)]
struct Cover {
    first: usize,
    second: Option<usize>,
}

/// Evictions that the budgets still allow, as nodes are admitted one after the other.
#[derive(Clone, Debug)]
pub struct Allowance<'a> {
    budgets: &'a Budgets<'a>,
    taken: Map<usize, i32>,
}

impl<'a> Budgets<'a> {
    /// Looks the budgets through once.
    pub fn new(all: &'a [DisruptionBudget]) -> Self {
        let mut of: Map<&str, Cover> = Map::default();
        // At most two of them count for a pod.
        of.reserve(all.iter().map(|budget| budget.covers.len()).sum::<usize>().min(1 << 16));
        for (place, budget) in all.iter().enumerate() {
            for uid in &budget.covers {
                let cover = of.entry(uid).or_insert(Cover { first: place, second: None });
                if cover.first != place {
                    cover.second.get_or_insert(place);
                }
            }
        }
        Self { all, of }
    }

    /// The budgets that the Eviction API asks about a pod. It asks none about a pod that is Pending or ends already.
    fn asked(&self, holder: &Holder) -> Option<Cover> {
        let asked = holder.ends.is_none() && holder.health != PodHealth::Pending;
        self.of.get(holder.uid.as_str()).copied().filter(|_| asked)
    }

    /// Whether a pod needs an eviction of its budget. One that is not ready needs none where the budget spares it.
    fn needs(&self, holder: &Holder, budget: usize) -> bool {
        holder.health != PodHealth::Unready || !self.all[budget].spares_unready
    }

    /// How many evictions are needed of each budget, in the order of the budgets, with the budget of each pod that needs one.
    fn demand(&self, mut of_pods: Vec<usize>) -> Vec<(usize, i32)> {
        of_pods.sort_unstable();
        let pods = |same: &[usize]| i32::try_from(same.len()).unwrap_or(i32::MAX);
        let same = of_pods.chunk_by(|a, b| a == b);
        same.map(|same| (same[0], needed_at_first(&self.all[same[0]], pods(same)))).collect()
    }
}

impl<'a> Allowance<'a> {
    /// All that the budgets allow at present.
    pub fn new(budgets: &'a Budgets<'a>) -> Self {
        Self { budgets, taken: Map::default() }
    }

    /// What is in the way of evicting all of these pods, if anything is.
    pub fn obstacle(&self, holders: &[&Holder]) -> Option<Blocked> {
        let all = self.budgets.all;
        let mut of_pods = Vec::with_capacity(holders.len());
        for holder in holders {
            let Some(Cover { first, second }) = self.budgets.asked(holder) else { continue };
            if let Some(second) = second {
                let pod = holder.full_name();
                let message = format!(
                    "the PodDisruptionBudgets {} and {} both cover pod {pod}, and the Eviction API refuses such pods: change one",
                    all[first].name, all[second].name
                );
                return Some(Blocked::new(Reason::MultipleDisruptionBudgets, message).on("Pod", pod));
            }
            of_pods.extend(self.budgets.needs(holder, first).then_some(first));
        }
        self.budgets.demand(of_pods).into_iter().find_map(|(place, needed)| {
            let budget = &all[place];
            let left = budget.allowed.saturating_sub(self.taken.get(&place).copied().unwrap_or(0)).max(0);
            let forbids = needed > left || budget.broken.is_some();
            forbids.then(|| {
                let name = format!("{}/{}", budget.namespace, budget.name);
                let message = why_not(budget, &name, left, needed);
                Blocked::new(Reason::DisruptionBudget, message).on("PodDisruptionBudget", name)
            })
        })
    }

    /// Sets aside what the eviction of these pods needs.
    pub fn take(&mut self, holders: &[&Holder]) {
        let asked = holders.iter().filter_map(|holder| Some((holder, self.budgets.asked(holder)?.first)));
        let of_pods = asked.filter(|(holder, budget)| self.budgets.needs(holder, *budget)).map(|(_, budget)| budget);
        for (place, needed) in self.budgets.demand(of_pods.collect()) {
            let taken = self.taken.entry(place).or_default();
            *taken = taken.saturating_add(needed);
        }
    }
}

/// Evictions that must be allowed before a node is closed: all of them at once, or as many as the budget can ever allow; the
/// other pods then follow one after the other, as their replacements become ready elsewhere.
fn needed_at_first(budget: &DisruptionBudget, pods: i32) -> i32 {
    pods.min(budget.most.max(1))
}

fn why_not(budget: &DisruptionBudget, name: &str, left: i32, needed: i32) -> String {
    match &budget.broken {
        Some(why) => format!("PodDisruptionBudget {name} never allows an eviction: {why}"),
        None if budget.most <= 0 => format!(
            "PodDisruptionBudget {name} never allows an eviction, because it asks for as many healthy pods as there are: lower \
             minAvailable, raise maxUnavailable, or run more pods; pods without a controller count only where minAvailable is a \
             number"
        ),
        None => format!("PodDisruptionBudget {name} allows {left} evictions now, and the node needs {needed}"),
    }
}

/// What makes it pointless to begin with emptying a node of these pods, if anything does. Where pods are deleted after the time limit
/// (`onTimeout: Force`), a budget or a long grace period is a delay and no more.
pub fn in_the_way(
    drain: &Drain<'_>,
    holders: &[&Holder],
    allowance: &Allowance<'_>,
    now: Timestamp,
) -> Option<Blocked> {
    let longest = now.checked_add(drain.max_grace_period).unwrap_or(Timestamp::MAX);
    let waits = drain.policy == DrainPolicy::WaitForCompletion;
    let forces = drain.on_timeout == OnTimeout::Force;
    for holder in holders {
        // Only of a pod that is in the way: there may be 40,000.
        let name = || holder.full_name();
        if holder.is_static {
            let message = format!("static pod {} cannot be evicted: take its manifest off the node", name());
            return Some(Blocked::new(Reason::StaticPodHolder, message).on("Pod", name()));
        }
        if let Some((_, controller)) = holder.controller.as_ref().filter(|(kind, _)| kind == "DaemonSet") {
            let message = format!(
                "pod {} belongs to DaemonSet {controller}, which would start it again at once: keep the DaemonSet off the node",
                name()
            );
            return Some(Blocked::new(Reason::DaemonSetHolder, message).on("DaemonSet", controller));
        }
        if holder.unreadable {
            return Some(unreadable(&name()));
        }
        if waits {
            continue;
        }
        if let Some(why) = drain.protected.why(holder) {
            let message = format!("pod {} is protected ({why}); the node waits until it has ended", name());
            return Some(Blocked::new(Reason::ProtectedPod, message).on("Pod", name()));
        }
        if !forces && holder.ends.is_none() && holder.grace > drain.max_grace_period {
            let message = format!(
                "pod {} asks for {} s to end, which is longer than drain.maxGracePeriod: end it, or raise the limit",
                name(),
                holder.grace.as_secs()
            );
            return Some(Blocked::new(Reason::LongGracePeriod, message).on("Pod", name()));
        }
        if !forces && holder.ends.is_some_and(|ends| ends > longest) {
            let message = format!(
                "pod {} is being deleted with a grace period longer than drain.maxGracePeriod: delete it again with a \
                 shorter one, or raise the limit",
                name()
            );
            return Some(Blocked::new(Reason::LongGracePeriod, message).on("Pod", name()));
        }
    }
    if waits || forces { None } else { allowance.obstacle(holders) }
}

/// Why a pod must never be evicted, if so: it is protected, or nothing is known of it.
pub fn must_stay(drain: &Drain<'_>, holder: &Holder) -> Option<Blocked> {
    let name = holder.full_name();
    if holder.unreadable {
        return Some(unreadable(&name));
    }
    let why = drain.protected.why(holder)?;
    Some(Blocked::new(Reason::ProtectedPod, format!("pod {name} is protected ({why})")).on("Pod", name))
}

fn unreadable(name: &str) -> Blocked {
    let message = format!(
        "the operator cannot read pod {name}, so it does not evict it: correct the pod or end it. The operator's log says what \
         is wrong with it"
    );
    Blocked::new(Reason::Unreadable, message).on("Pod", name)
}
