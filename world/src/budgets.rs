//! Which PodDisruptionBudgets cover which holders. Tenants write both, as many as they like: the time that this takes grows with the
//! holders, not with holders times budgets.

use std::collections::{BTreeMap, HashMap};

use cxi_rollout::{
    selector::{Coverage, coverage},
    world::{DisruptionBudget, Holder},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::seen::{self, Object};

/// Budgets that are looked for over one pod. The Eviction API refuses a pod that has two, so more of them change nothing.
const FOUND: usize = 2;

/// Budgets with which one pod is compared. With more that it might have, the pod counts as covered by one that allows nothing.
const COMPARED: usize = 64;

/// Longest words of the disruption controller that are kept, in characters.
const WORDS: usize = 256;

/// A PodDisruptionBudget, as far as it matters.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its selector; one without covers nothing.
    pub selector: Option<LabelSelector>,
    /// See [`DisruptionBudget::allowed`].
    pub allowed: i32,
    /// See [`DisruptionBudget::most`].
    pub most: i32,
    /// See [`DisruptionBudget::spares_unready`].
    pub spares_unready: bool,
    /// See [`DisruptionBudget::broken`].
    pub broken: Option<String>,
}

impl Budget {
    /// One as it was read. One that cannot be read covers every holder of its namespace and allows nothing.
    pub fn of(object: &Object<seen::Budget>) -> Self {
        let (namespace, name) = (object.id.namespace().to_owned(), object.id.name().to_owned());
        let read = match &object.content {
            Ok(read) => read,
            Err(unreadable) => {
                let why = format!("the operator cannot read it ({}); correct it or delete it", unreadable.why);
                return Self {
                    namespace,
                    name,
                    selector: Some(LabelSelector::default()),
                    broken: Some(why),
                    ..Self::default()
                };
            }
        };
        // For pods that are not ready the API server takes the status as it finds it.
        let healthy = read.current_healthy >= read.desired_healthy && read.desired_healthy > 0;
        Self {
            namespace,
            name,
            selector: read.selector.clone(),
            // A status that speaks of an earlier spec allows nothing; the API server sees it the same way.
            allowed: if read.is_current { read.disruptions_allowed } else { 0 },
            // What the disruption controller has not worked out yet may be as much as any.
            most: if read.is_current { read.expected_pods.saturating_sub(read.desired_healthy) } else { i32::MAX },
            spares_unready: read.always_allow || healthy,
            broken: read.sync_failed.as_deref().filter(|_| read.is_current).map(sync_failed),
        }
    }
}

/// That the disruption controller cannot count the pods of a budget, and what helps: percentages and maxUnavailable are of the pods that a
/// controller's scale subresource asks for, which a Job and most custom kinds do not have (`getExpectedPodCount` in
/// `pkg/controller/disruption/disruption.go`).
fn sync_failed(message: &str) -> String {
    let message: String = message.chars().take(WORDS).collect();
    format!(
        "Kubernetes cannot count its pods ({message}). A percentage and maxUnavailable need pods whose controller can be scaled; for \
         Jobs, kinds without a scale subresource and pods without a controller write minAvailable as a number instead"
    )
}

/// The budgets that cover at least one of the holders; of those that cover the same pod, two.
pub fn covering<'a>(mut budgets: Vec<Budget>, holders: impl Iterator<Item = &'a Holder>) -> Vec<DisruptionBudget> {
    budgets.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let namespaces = Namespace::all(&budgets);
    let Found { covers, unclear, .. } = find(&namespaces, holders);
    let clear = covers.into_iter().map(|(place, covers)| {
        let why = why_everything(&namespaces, &budgets[place], place);
        shown(&budgets[place], covers, why)
    });
    let unclear = unclear.into_iter().map(|(place, covers)| {
        let budget = Budget { allowed: 0, ..budgets[place].clone() };
        let why = format!(
            "more than {COMPARED} PodDisruptionBudgets may cover the same pod, and the operator compares no more; delete some"
        );
        shown(&budget, covers, Some(why))
    });
    clear.chain(unclear).collect()
}

/// UIDs of pods by the places of budgets.
#[derive(Default)]
struct Found {
    covers: BTreeMap<usize, Vec<String>>,
    /// Pods that too many budgets may cover, by the first with which they were not compared.
    unclear: BTreeMap<usize, Vec<String>>,
    comparisons: usize,
}

fn find<'a>(namespaces: &HashMap<&str, Namespace<'_>>, holders: impl Iterator<Item = &'a Holder>) -> Found {
    let mut all = Found::default();
    for holder in holders {
        let Some(namespace) = namespaces.get(holder.namespace.as_str()) else { continue };
        let mut found = 0;
        for (compared, place) in namespace.candidates(holder).enumerate() {
            if compared == COMPARED {
                all.unclear.entry(place).or_default().push(holder.uid.clone());
                break;
            }
            all.comparisons += 1;
            if namespace.coverage[&place].covers(&holder.labels) {
                all.covers.entry(place).or_default().push(holder.uid.clone());
                found += 1;
            }
            if found == FOUND {
                break;
            }
        }
    }
    all
}

fn why_everything(namespaces: &HashMap<&str, Namespace<'_>>, budget: &Budget, place: usize) -> Option<String> {
    match namespaces.get(budget.namespace.as_str())?.coverage.get(&place)? {
        Coverage::Everything(why) => {
            Some(format!("its selector cannot be understood ({why}), so it counts for every pod of its namespace"))
        }
        _ => None,
    }
}

fn shown(budget: &Budget, covers: Vec<String>, why: Option<String>) -> DisruptionBudget {
    DisruptionBudget {
        namespace: budget.namespace.clone(),
        name: budget.name.clone(),
        covers,
        allowed: budget.allowed,
        most: budget.most,
        spares_unready: budget.spares_unready && why.is_none(),
        broken: budget.broken.clone().or(why),
    }
}

/// The budgets of one namespace, by what a pod must have for them to cover it.
#[derive(Default)]
struct Namespace<'a> {
    coverage: HashMap<usize, Coverage<'a>>,
    /// Those that may cover a pod with any labels.
    any: Vec<usize>,
    /// By key of a label, and its value.
    by_label: HashMap<(&'a str, &'a str), Vec<usize>>,
    /// By key of a label that may have any value.
    by_key: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Namespace<'a> {
    fn all(budgets: &'a [Budget]) -> HashMap<&'a str, Self> {
        let mut all: HashMap<&str, Self> = HashMap::new();
        for (place, budget) in budgets.iter().enumerate() {
            let coverage = match coverage(budget.selector.as_ref()) {
                Coverage::Nothing => continue,
                coverage => coverage,
            };
            all.entry(&budget.namespace).or_default().coverage.insert(place, coverage);
        }
        for namespace in all.values_mut() {
            namespace.sort();
        }
        all
    }

    /// Puts each budget where the fewest others are: under the rarest of the labels that it needs.
    fn sort(&mut self) {
        let mut wanted: HashMap<(&str, &str), usize> = HashMap::new();
        let needs = |coverage: &Coverage<'a>| match coverage {
            Coverage::Matching(selector) => selector.needs().collect(),
            _ => Vec::new(),
        };
        for (key, values) in self.coverage.values().flat_map(needs) {
            let values = if values.is_empty() { vec![""] } else { values };
            for value in values {
                *wanted.entry((key, value)).or_default() += 1;
            }
        }
        let crowd = |key: &'a str, values: &[&'a str]| {
            let each = values.iter().map(|value| wanted.get(&(key, *value)).copied().unwrap_or_default());
            each.max().unwrap_or(usize::MAX)
        };
        let mut places: Vec<usize> = self.coverage.keys().copied().collect();
        places.sort_unstable();
        for place in places {
            let rarest = needs(&self.coverage[&place]).into_iter().min_by_key(|(key, values)| crowd(key, values));
            match rarest {
                None => self.any.push(place),
                Some((key, values)) if values.is_empty() => self.by_key.entry(key).or_default().push(place),
                Some((key, values)) => {
                    for value in values {
                        let there = self.by_label.entry((key, value)).or_default();
                        if there.last() != Some(&place) {
                            there.push(place);
                        }
                    }
                }
            }
        }
    }

    /// The budgets that may cover a pod.
    fn candidates<'s>(&'s self, holder: &'s Holder) -> impl Iterator<Item = usize> + 's {
        let by_label = holder.labels.iter().flat_map(|(key, value)| {
            let value = self.by_label.get(&(key.as_str(), value.as_str()));
            value.into_iter().chain(self.by_key.get(key.as_str())).flatten()
        });
        self.any.iter().chain(by_label).copied()
    }
}

#[cfg(test)]
#[path = "budgets_tests.rs"]
mod tests;
