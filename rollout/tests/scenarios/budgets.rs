//! The arithmetic of PodDisruptionBudgets, as the Eviction API does it, and what must stay whatever a budget says.

use cxi_api::{
    GoDuration, Phase, Reason,
    strategy::{DrainPolicy, OnTimeout},
};
use cxi_rollout::world::PodHealth;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use rstest::rstest;

use super::{evicting, evictions, message, reason, upgrade};
use crate::sim::{Budget, Kind, Sim, Workload, seconds};

/// One node that evicts, a pod on it, and budgets over the pod; another release is wanted.
fn one_pod(pod: Workload, budgets: impl IntoIterator<Item = Budget>) -> Sim {
    let mut sim = evicting(1);
    sim.start(pod.on("n1"));
    sim.jobs();
    sim.budgets.extend(budgets);
    sim.project_holders();
    upgrade(&mut sim, "13.1.0");
    sim
}

fn of_health(health: PodHealth) -> Workload {
    Workload { health, ..Workload::job("db") }
}

/// A budget that allows nothing at present.
fn strict() -> Budget {
    Budget::over("db", 1)
}

#[rstest]
#[case::none_forbids(strict(), PodHealth::Pending, true)]
#[case::not_even_one_that_cannot_be_counted(Budget { sync_failed: Some("no scale".into()), ..strict() }, PodHealth::Pending, true)]
#[case::too_few_are_healthy(strict(), PodHealth::Unready, false)]
#[case::none_need_be_healthy(Budget::over("db", 0), PodHealth::Unready, false)]
#[case::always(Budget { always_allow: true, ..strict() }, PodHealth::Unready, true)]
#[case::always_although_it_cannot_be_counted(Budget { always_allow: true, sync_failed: Some("no scale".into()), ..strict() }, PodHealth::Unready, true)]
#[case::ready_pods_are_another_matter(Budget { always_allow: true, ..strict() }, PodHealth::Ready, false)]
fn pods_that_serve_nobody_need_no_budget(#[case] budget: Budget, #[case] health: PodHealth, #[case] goes: bool) {
    let mut sim = one_pod(of_health(health), [budget]);
    sim.settle();
    if goes {
        sim.assert_all_up_to_date();
    } else {
        assert_eq!(reason(&sim, "n1"), Some(Reason::DisruptionBudget), "{}", sim.describe());
        sim.assert_runs("n1", "13.0.0");
        assert_eq!(evictions(&sim), 0, "it was known beforehand");
    }
}

/// One of three is broken, and the other two are all that the budget asks for.
#[test]
fn an_unready_pod_needs_no_budget_while_as_many_are_healthy_as_it_asks_for() {
    let mut sim = evicting(2);
    sim.start(Workload::job("good").on("n2").replicas(2));
    sim.start(of_health(PodHealth::Unready).on("n1"));
    sim.jobs();
    sim.budgets.push(Budget { workloads: vec!["good".into(), "db".into()], ..Budget::over("app", 2) });
    sim.project_holders();
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_up_to_date("n1");
    assert_eq!(reason(&sim, "n2"), Some(Reason::DisruptionBudget), "{}", sim.describe());
}

#[test]
fn a_pod_that_ends_already_needs_no_budget() {
    let mut sim = one_pod(Workload { stubborn: true, grace: seconds(300), ..Workload::job("db") }, [strict()]);
    sim.pass(60);
    assert_eq!(reason(&sim, "n1"), Some(Reason::DisruptionBudget));
    // Its owner deletes it, and has no other started.
    sim.workloads[0].replicas = 0;
    let uid = sim.pods[0].holder.uid.clone();
    sim.end_pod(&uid);
    sim.project_holders();
    sim.pass(60);
    assert_ne!(reason(&sim, "n1"), Some(Reason::DisruptionBudget), "{}", message(&sim, "n1"));
    sim.settle();
    sim.assert_all_up_to_date();
}

/// The Eviction API asks no budget about a Pending pod, and so does not mind two.
#[rstest]
#[case(PodHealth::Pending, None)]
#[case(PodHealth::Unready, Some(Reason::MultipleDisruptionBudgets))]
fn two_budgets_over_one_pod(#[case] health: PodHealth, #[case] why: Option<Reason>) {
    let budgets = ["one", "two"].map(|name| Budget { name: name.into(), always_allow: true, ..strict() });
    let mut sim = one_pod(of_health(health), budgets);
    sim.settle();
    assert_eq!(reason(&sim, "n1"), why, "{}", message(&sim, "n1"));
}

fn forcing(sim: &mut Sim, policy: DrainPolicy) {
    sim.edit(|spec| {
        spec.update_strategy.drain.policy = policy;
        spec.update_strategy.drain.on_timeout = OnTimeout::Force;
        spec.update_strategy.drain.evict_timeout = GoDuration::minutes(2);
        spec.update_strategy.drain.wait_timeout = GoDuration::minutes(3);
    });
}

/// Force means it: a budget is a delay of evictTimeout, and no obstacle.
#[rstest]
fn with_force_a_budget_is_a_delay(
    #[values(DrainPolicy::Evict, DrainPolicy::WaitThenEvict, DrainPolicy::WaitForCompletion)] policy: DrainPolicy,
    #[values(1, 2)] budgets: usize,
) {
    let mut sim = evicting(1);
    forcing(&mut sim, policy);
    sim.start(Workload::job("db").on("n1"));
    for number in 0..budgets {
        sim.budgets.push(Budget { name: format!("pdb-{number}"), ..strict() });
    }
    sim.project_holders();
    let (began, pod) = (sim.now, sim.pods[0].holder.uid.clone());
    upgrade(&mut sim, "13.1.0");
    sim.until("the pod is told to go", |sim| {
        sim.pods.iter().find(|one| one.holder.uid == pod).is_none_or(|pod| pod.holder.ends.is_some())
    });
    let took = sim.now.duration_since(began).as_secs();
    let (least, most) = if policy == DrainPolicy::Evict { (120, 200) } else { (300, 400) };
    assert!((least..most).contains(&took), "{took} s");
    sim.until_phase("n1", Phase::UpToDate);
}

#[rstest]
#[case::protected(Kind::Job, true, Reason::ProtectedPod)]
#[case::of_a_daemonset(Kind::DaemonSet, false, Reason::DaemonSetHolder)]
#[case::static_(Kind::Static, false, Reason::StaticPodHolder)]
fn what_must_stay_stays_with_force(#[case] kind: Kind, #[case] protect: bool, #[case] why: Reason) {
    let mut sim = evicting(1);
    forcing(&mut sim, DrainPolicy::Evict);
    if protect {
        sim.edit(|spec| spec.update_strategy.drain.protected_pods = Some(LabelSelector::default()));
    }
    sim.start(Workload::job("db").on("n1").of_kind(kind));
    upgrade(&mut sim, "13.1.0");
    sim.pass(3600);
    assert_eq!((reason(&sim, "n1"), evictions(&sim)), (Some(why), 0));
    sim.assert_runs("n1", "13.0.0");
}

#[rstest]
#[case::cannot_be_counted(Budget { sync_failed: Some("jobs.batch cannot be scaled".into()), ..strict() }, "jobs.batch cannot be scaled")]
#[case::asks_for_all(strict(), "lower minAvailable")]
fn a_budget_that_never_allows_anything_says_so(#[case] budget: Budget, #[case] words: &str) {
    let mut sim = one_pod(Workload::job("db"), [budget]);
    sim.settle();
    let said = message(&sim, "n1");
    assert!(said.contains("jobs/db never allows an eviction") && said.contains(words), "{said}");
}

/// One of two pods waits for a node.
#[test]
fn a_budget_that_allows_nothing_just_now_does_not_say_never() {
    let mut sim = evicting(1);
    sim.start(Workload::job("db").on("n1"));
    sim.workloads[0] = Workload::job("db").on("nowhere").replicas(2);
    sim.budgets.push(strict());
    sim.project_holders();
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(message(&sim, "n1").contains("allows 0 evictions now, and the node needs 1"), "{}", message(&sim, "n1"));
}

#[rstest]
#[case(OnTimeout::GiveBack)]
#[case(OnTimeout::Force)]
fn a_pod_that_cannot_be_read_is_named_and_not_evicted(#[case] then: OnTimeout) {
    let mut sim = evicting(1);
    forcing(&mut sim, DrainPolicy::Evict);
    sim.edit(|spec| spec.update_strategy.drain.on_timeout = then);
    sim.start(Workload::job("odd").on("n1"));
    sim.pods[0].holder.unreadable = true;
    sim.project_holders();
    upgrade(&mut sim, "13.1.0");
    sim.pass(3600);
    assert_eq!((reason(&sim, "n1"), evictions(&sim)), (Some(Reason::Unreadable), 0));
    assert!(message(&sim, "n1").contains("jobs/odd"), "{}", message(&sim, "n1"));
    sim.assert_runs("n1", "13.0.0");
    sim.pods[0].holder.unreadable = false;
    sim.project_holders();
    sim.until_phase("n1", Phase::UpToDate);
}

#[test]
fn a_pod_that_cannot_be_read_any_more_is_not_evicted_from_a_closed_node() {
    let mut sim = evicting(1);
    forcing(&mut sim, DrainPolicy::Evict);
    sim.start(Workload::job("odd").on("n1"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    sim.pods[0].holder.unreadable = true;
    sim.project_holders();
    sim.until_phase("n1", Phase::Pending);
    assert_eq!((reason(&sim, "n1"), evictions(&sim), sim.pods.len()), (Some(Reason::Unreadable), 0, 1));
    sim.assert_runs("n1", "13.0.0");
}

#[rstest]
#[case::evict(DrainPolicy::Evict, OnTimeout::GiveBack, true)]
#[case::fail(DrainPolicy::Evict, OnTimeout::Fail, true)]
#[case::wait_then_evict(DrainPolicy::WaitThenEvict, OnTimeout::GiveBack, true)]
#[case::force(DrainPolicy::Evict, OnTimeout::Force, false)]
#[case::wait(DrainPolicy::WaitForCompletion, OnTimeout::GiveBack, false)]
fn a_grace_period_beyond_the_limit_is_known_beforehand(
    #[case] policy: DrainPolicy,
    #[case] then: OnTimeout,
    #[case] blocks: bool,
) {
    let mut sim = evicting(1);
    sim.edit(|spec| {
        spec.update_strategy.drain.policy = policy;
        spec.update_strategy.drain.on_timeout = then;
        spec.update_strategy.drain.max_grace_period = GoDuration::minutes(10);
    });
    sim.start(Workload { grace: seconds(601), ..Workload::job("slow").on("n1") });
    upgrade(&mut sim, "13.1.0");
    if blocks {
        sim.pass(7200);
        assert_eq!((reason(&sim, "n1"), evictions(&sim)), (Some(Reason::LongGracePeriod), 0));
        assert!(message(&sim, "n1").contains("jobs/slow") && message(&sim, "n1").contains("601"));
        sim.assert_runs("n1", "13.0.0");
    } else {
        sim.until("it is begun", |sim| matches!(sim.phase("n1"), Some(Phase::Waiting | Phase::Closing)));
    }
}

#[test]
fn a_grace_period_at_the_limit_is_no_obstacle() {
    let mut sim = evicting(1);
    sim.edit(|spec| spec.update_strategy.drain.max_grace_period = GoDuration::minutes(10));
    sim.start(Workload { grace: seconds(600), ..Workload::job("slow").on("n1") });
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

fn exists(operator: &str) -> LabelSelector {
    let requirement = LabelSelectorRequirement { key: "precious".into(), operator: operator.into(), values: None };
    LabelSelector { match_expressions: Some(vec![requirement]), match_labels: None }
}

/// The schema of a custom resource takes any text for an operator.
#[test]
fn a_protection_that_cannot_be_understood_protects_every_pod() {
    let mut sim = evicting(2);
    sim.edit(|spec| spec.update_strategy.drain.protected_pods = Some(exists("exists")));
    sim.start(Workload::job("db").on("n1"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_up_to_date("n2");
    assert_eq!((reason(&sim, "n1"), evictions(&sim)), (Some(Reason::ProtectedPod), 0));
    assert!(message(&sim, "n1").contains("cannot be understood"), "{}", message(&sim, "n1"));
    sim.edit(|spec| spec.update_strategy.drain.protected_pods = Some(exists("Exists")));
    sim.settle();
    sim.assert_all_up_to_date();
}

#[rstest]
#[case::everywhere(&[], true)]
#[case::here(&["infra", "jobs"], true)]
#[case::elsewhere(&["infra"], false)]
fn pods_are_protected_in_the_namespaces_that_are_named(#[case] namespaces: &[&str], #[case] protected: bool) {
    let mut sim = evicting(1);
    sim.edit(|spec| {
        spec.update_strategy.drain.protected_pods = Some(LabelSelector::default());
        spec.update_strategy.drain.protected_namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
    });
    sim.start(Workload::job("db").on("n1"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(reason(&sim, "n1") == Some(Reason::ProtectedPod), protected, "{}", message(&sim, "n1"));
    assert_eq!(evictions(&sim), usize::from(!protected));
}
