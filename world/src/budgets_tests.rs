use std::time::Duration;

use cxi_rollout::world::PodHealth;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn holder(number: usize, namespace: &str, labels: &[(&str, &str)]) -> Holder {
    Holder {
        namespace: namespace.into(),
        name: format!("pod-{number}"),
        uid: format!("uid-{number}"),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        resources: vec!["hpe.com/cxi".into()],
        ends: None,
        controller: None,
        is_static: false,
        started: true,
        health: PodHealth::Ready,
        grace: Duration::from_secs(30),
        unreadable: false,
        refused: None,
    }
}

fn budget(namespace: &str, name: &str, selector: Value) -> Budget {
    let selector = serde_json::from_value(selector).unwrap();
    Budget { namespace: namespace.into(), name: name.into(), selector: Some(selector), ..Budget::default() }
}

fn object(spec: &Value, status: &Value) -> std::sync::Arc<Object<seen::Budget>> {
    let metadata = json!({"name": "pdb", "namespace": "jobs", "generation": 2});
    seen::given(&json!({"metadata": metadata, "spec": spec, "status": status}))
}

fn status(current: i32, desired: i32, expected: i32, allowed: i32, generation: i64) -> Value {
    json!({
        "currentHealthy": current, "desiredHealthy": desired, "expectedPods": expected, "disruptionsAllowed": allowed,
        "observedGeneration": generation,
    })
}

/// Names of the budgets over a pod.
fn over(budgets: &[DisruptionBudget], holder: &Holder) -> Vec<String> {
    budgets.iter().filter(|budget| budget.covers.contains(&holder.uid)).map(|budget| budget.name.clone()).collect()
}

#[rstest]
#[case::as_many_as_asked_for(None, status(2, 2, 2, 0, 2), true)]
#[case::too_few(None, status(1, 2, 2, 0, 2), false)]
#[case::none_asked_for(None, status(0, 0, 2, 0, 2), false)]
#[case::by_policy(Some("AlwaysAllow"), status(1, 2, 2, 0, 2), true)]
#[case::by_the_other_policy(Some("IfHealthyBudget"), status(1, 2, 2, 0, 2), false)]
#[case::by_a_policy_of_a_newer_kubernetes(Some("Whatever"), status(1, 2, 2, 0, 2), false)]
#[case::by_a_status_of_an_earlier_spec(None, status(2, 2, 2, 0, 1), true)]
fn pods_that_are_not_ready_are_spared_as_the_eviction_api_spares_them(
    #[case] policy: Option<&str>,
    #[case] status: Value,
    #[case] spared: bool,
) {
    let object = object(&json!({"selector": {}, "unhealthyPodEvictionPolicy": policy}), &status);
    assert_eq!(Budget::of(&object).spares_unready, spared);
}

#[test]
fn a_status_of_an_earlier_spec_allows_nothing_and_does_not_say_never() {
    let budget = Budget::of(&object(&json!({"selector": {}}), &status(2, 2, 2, 1, 1)));
    assert!(budget.allowed == 0 && budget.most > 0, "{budget:?}");
    let none = seen::given(&json!({"metadata": {"name": "new"}, "spec": {"selector": {}}}));
    let budget = Budget::of(&none);
    assert!(budget.allowed == 0 && budget.most > 0 && !budget.spares_unready, "{budget:?}");
}

#[test]
fn a_budget_whose_pods_cannot_be_counted_says_what_to_write_instead() {
    let mut status = status(0, 0, 0, 0, 2);
    status["conditions"] = json!([{
        "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "lastTransitionTime": "2026-01-01T00:00:00Z",
        "message": "jobs.batch does not implement the scale subresource",
    }]);
    let broken = Budget::of(&object(&json!({"selector": {}, "maxUnavailable": 1}), &status)).broken.unwrap();
    for words in ["jobs.batch does not implement the scale subresource", "minAvailable as a number"] {
        assert!(broken.contains(words), "{broken}");
    }
}

#[test]
fn budgets_count_in_their_namespace() {
    let holders = [holder(1, "jobs", &[("app", "mpi")]), holder(2, "other", &[("app", "mpi")])];
    let budgets = vec![budget("jobs", "pdb", json!({"matchLabels": {"app": "mpi"}}))];
    let shown = covering(budgets, holders.iter());
    assert_eq!((over(&shown, &holders[0]).len(), over(&shown, &holders[1]).len()), (1, 0));
}

#[rstest]
#[case::cannot_be_read(
    Budget::of(&seen::given::<seen::Budget>(&json!({"metadata": {"name": "odd", "namespace": "jobs"}, "spec": {"selector": 5}}))),
    "spec.selector"
)]
#[case::selector_cannot_be_understood(budget("jobs", "odd", json!({"matchExpressions": [{"key": "app", "operator": "exists"}]})), "exists")]
fn what_cannot_be_understood_covers_its_namespace_and_allows_nothing(#[case] odd: Budget, #[case] word: &str) {
    let holders = [holder(1, "jobs", &[]), holder(2, "jobs", &[("app", "mpi")]), holder(3, "other", &[])];
    let shown = covering(vec![odd], holders.iter());
    let [one] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!(one.covers, ["uid-1", "uid-2"]);
    assert!(one.allowed == 0 && !one.spares_unready && one.broken.as_ref().unwrap().contains(word), "{one:?}");
}

#[test]
fn a_budget_without_a_selector_covers_nothing() {
    let none = Budget { namespace: "jobs".into(), name: "none".into(), ..Budget::default() };
    assert!(covering(vec![none], [holder(1, "jobs", &[])].iter()).is_empty());
}

#[test]
fn of_many_budgets_over_one_pod_two_are_kept() {
    let many = (0..100)
        .map(|number| budget("jobs", &format!("pdb-{number:03}"), json!({"matchLabels": {"app": "mpi"}})))
        .collect();
    let shown = covering(many, [holder(1, "jobs", &[("app", "mpi")])].iter());
    let names: Vec<_> = shown.iter().map(|budget| budget.name.as_str()).collect();
    assert_eq!(names, ["pdb-000", "pdb-001"]);
}

/// A tenant can write budgets that may cover a pod and do not.
#[test]
fn a_pod_that_very_many_budgets_may_cover_counts_as_covered() {
    let not = |number: usize| json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["mpi", number.to_string()]}]});
    let many =
        |count: usize| (0..count).map(|number| budget("jobs", &format!("pdb-{number:03}"), not(number))).collect();
    let pod = holder(1, "jobs", &[("app", "mpi")]);
    assert!(covering(many(COMPARED), [&pod].into_iter()).is_empty());
    let shown = covering(many(COMPARED + 1), [&pod].into_iter());
    let [one] = shown.as_slice() else { panic!("{shown:?}") };
    assert!(one.allowed == 0 && one.broken.as_ref().unwrap().contains("64"), "{one:?}");
}

/// The index finds what comparing each with each finds.
#[test]
fn the_index_overlooks_nothing() {
    let requirement = |dice: usize| {
        let (operator, values): (&str, &[&str]) = match dice % 5 {
            0 => ("In", &["0", "1"]),
            1 => ("NotIn", &["0"]),
            2 => ("Exists", &[]),
            3 => ("DoesNotExist", &[]),
            _ => ("In", &["2", "2"]),
        };
        LabelSelectorRequirement {
            key: ["a", "b", "c"][dice / 5 % 3].into(),
            operator: operator.into(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        }
    };
    let selectors = (0..15 * 15).map(|dice| {
        let labels = (dice % 4 == 0).then(|| [("a".to_owned(), (dice % 3).to_string())].into());
        let both = vec![requirement(dice), requirement(dice / 15)];
        LabelSelector { match_labels: labels, match_expressions: Some(both) }
    });
    let holders: Vec<Holder> = (0..64)
        .map(|dice| {
            let value = |place: usize| ["0", "1", "2"].get(dice / place % 4).copied();
            let labels = [("a", value(1)), ("b", value(4)), ("c", value(16))];
            let labels: Vec<_> = labels.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            holder(dice, "jobs", &labels)
        })
        .collect();
    let mut covered = 0;
    for selector in selectors {
        let one = Budget {
            namespace: "jobs".into(),
            name: "pdb".into(),
            selector: Some(selector.clone()),
            ..Budget::default()
        };
        let shown = covering(vec![one], holders.iter());
        for holder in &holders {
            let expected = coverage(Some(&selector)).covers(&holder.labels);
            assert_eq!(!over(&shown, holder).is_empty(), expected, "{selector:?} {:?}", holder.labels);
            covered += usize::from(expected);
        }
    }
    assert!(covered > 1000, "{covered}");
}

/// However many budgets tenants write, a pod is compared with a few of them.
#[rstest]
#[case::each_job_has_its_own(|number: usize| json!({"matchLabels": {"app": "mpi", "job": number.to_string()}}), 1)]
#[case::each_job_is_listed(|number: usize| json!({"matchExpressions": [
    {"key": "app", "operator": "Exists"}, {"key": "job", "operator": "In", "values": [number.to_string(), "none"]},
]}), 1)]
#[case::all_cover_everything(|_: usize| json!({}), FOUND)]
#[case::all_say_what_not(|number: usize| json!({"matchExpressions": [
    {"key": "job", "operator": "NotIn", "values": [number.to_string()]},
]}), FOUND + 1)]
#[case::all_may_and_none_does(|number: usize| json!({"matchLabels": {"app": "mpi"}, "matchExpressions": [
    {"key": "job", "operator": "NotIn", "values": [number.to_string()]}, {"key": "app", "operator": "DoesNotExist"},
]}), COMPARED)]
fn a_pod_is_compared_with_few_budgets(#[case] selector: fn(usize) -> Value, #[case] most: usize) {
    let budgets: Vec<Budget> =
        (0..2000).map(|number| budget("jobs", &format!("pdb-{number}"), selector(number))).collect();
    let job = |number: usize| (number / 4).to_string();
    let holders: Vec<Holder> =
        (0..8000).map(|number| holder(number, "jobs", &[("app", "mpi"), ("job", &job(number))])).collect();
    let found = find(&Namespace::all(&budgets), holders.iter());
    assert!(found.comparisons <= most * holders.len(), "{} comparisons", found.comparisons);
    assert!(found.comparisons >= holders.len(), "each was compared with one at least");
}
