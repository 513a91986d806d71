//! How pods leave: drain policies, time limits, PodDisruptionBudgets, and pods that must not or cannot be evicted.

use cxi_api::{
    Advertise, GoDuration, Phase, Reason,
    strategy::{DrainPolicy, OnTimeout},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use rstest::rstest;

use super::{evicting, evictions, message, reason, upgrade};
use crate::sim::{Budget, Kind, Sim, Workload, build::spec, seconds};

fn with_policy(nodes: usize, policy: DrainPolicy) -> Sim {
    let mut wanted = spec("13.0.0");
    wanted.update_strategy.drain.policy = policy;
    Sim::installed(nodes, wanted)
}

#[test]
fn evict_evicts_each_pod_once() {
    let mut sim = with_policy(3, DrainPolicy::Evict);
    for node in ["n1", "n2", "n3"] {
        sim.start(Workload::job(node).on(node).replicas(2));
    }
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(evictions(&sim), 6);
}

#[test]
fn wait_for_completion_never_evicts_and_offers_only_what_is_in_use() {
    let mut sim = with_policy(3, DrainPolicy::WaitForCompletion);
    for node in ["n1", "n2", "n3"] {
        sim.start(Workload::job(node).on(node).for_seconds(5000));
    }
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Waiting);
    sim.pass(20);
    assert_eq!(sim.node("n1").rollout().unwrap().advertise, Advertise::InUse);
    assert_eq!(sim.node("n1").allocatable["hpe.com/cxi"], 1);
    assert_eq!(reason(&sim, "n1"), Some(Reason::PodsRunning));
    sim.start(Workload::job("late").on("n1"));
    assert!(sim.pods.iter().all(|pod| pod.workload != "late"), "nothing new fits");
    sim.workloads.pop();
    sim.restart_operator();
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(evictions(&sim), 0);
}

#[test]
fn wait_then_evict_waits_first() {
    let mut sim = with_policy(1, DrainPolicy::WaitThenEvict);
    sim.start(Workload::job("short").for_seconds(3600));
    sim.start(Workload::job("long"));
    upgrade(&mut sim, "13.1.0");
    sim.pass(7200);
    assert_eq!((sim.phase("n1"), evictions(&sim), sim.pods.len()), (Some(Phase::Waiting), 0, 1));
    sim.until("the upgrade", |sim| sim.driver().status.state.as_deref() == Some("Ready"));
    sim.assert_all_up_to_date();
    assert_eq!(evictions(&sim), 1);
}

/// An administrator who has waited long enough need not wait for the time limit too. A budget still keeps its pod, and the node
/// its service.
#[test]
fn a_policy_changed_to_evict_holds_for_a_node_that_waits() {
    let mut sim = with_policy(1, DrainPolicy::WaitForCompletion);
    sim.start(Workload::job("db"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Waiting);
    sim.budgets.push(Budget::over("db", 1));
    sim.pass(60);
    sim.edit(|spec| spec.update_strategy.drain.policy = DrainPolicy::Evict);
    sim.pass(600);
    assert_eq!((sim.phase("n1"), evictions(&sim)), (Some(Phase::Waiting), 0));
    assert_eq!(reason(&sim, "n1"), Some(Reason::DisruptionBudget));
    sim.budgets.clear();
    sim.pass(900);
    sim.assert_all_up_to_date();
    assert_eq!(evictions(&sim), 1);
}

/// A pod that ignores SIGTERM, with a grace period beyond the time limit of evictions, which counts too.
#[test]
fn a_pod_that_ignores_sigterm_gets_its_grace_period() {
    let mut sim = evicting(1);
    sim.start(Workload { stubborn: true, grace: seconds(3600), ..Workload::job("deaf") });
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(evictions(&sim), 1);
}

#[test]
fn a_pod_that_does_not_end_is_named_and_the_node_given_back() {
    let mut sim = evicting(2);
    sim.start(Workload { stuck: true, ..Workload::job("stuck").on("n1") });
    upgrade(&mut sim, "13.1.0");
    sim.until("stuck", |sim| reason(sim, "n1") == Some(Reason::StuckTerminating));
    assert!(message(&sim, "n1").contains("stuck"), "{}", message(&sim, "n1"));
    sim.until("n2 first", |sim| sim.phase("n2") == Some(Phase::UpToDate));
    sim.until("given back", |sim| sim.phase("n1") == Some(Phase::Pending));
    sim.assert_runs("n1", "13.0.0");
    sim.workloads.clear();
    sim.pods.clear();
    sim.until_phase("n1", Phase::UpToDate);
}

#[rstest]
#[case::give_back(OnTimeout::GiveBack, Phase::Pending, "13.0.0", 0)]
#[case::fail(OnTimeout::Fail, Phase::Pending, "13.0.0", 1)]
#[case::force(OnTimeout::Force, Phase::UpToDate, "13.1.0", 0)]
fn at_the_time_limit(#[case] then: OnTimeout, #[case] phase: Phase, #[case] version: &str, #[case] failed: i32) {
    let mut sim = evicting(1);
    sim.edit(|spec| {
        spec.update_strategy.drain.on_timeout = then;
        spec.update_strategy.drain.evict_timeout = GoDuration::minutes(2);
    });
    sim.start(Workload::job("db"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    sim.budgets.push(Budget::over("db", 1));
    sim.project_holders();
    sim.pass(600);
    sim.assert_runs("n1", version);
    assert_eq!(sim.phase("n1"), Some(phase), "{}", sim.describe());
    assert_eq!(sim.driver().status.failed, failed);
    assert_eq!(sim.driver().status.rollout.as_ref().unwrap().halted.is_some(), failed > 0);
}

/// Its containers may still run: the driver is not pulled from under it, and the node does not stay closed for it.
#[test]
fn force_gives_up_on_a_pod_that_was_told_and_stays() {
    let mut sim = evicting(1);
    sim.edit(|spec| {
        spec.update_strategy.drain.on_timeout = OnTimeout::Force;
        spec.update_strategy.drain.evict_timeout = GoDuration::minutes(2);
    });
    sim.start(Workload { stuck: true, ..Workload::job("stuck") });
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Evicting);
    sim.pass(600);
    assert_eq!((sim.phase("n1"), reason(&sim, "n1")), (Some(Phase::Pending), Some(Reason::StuckTerminating)));
    sim.assert_runs("n1", "13.0.0");
}

#[test]
fn force_under_wait_for_completion_deletes_only_at_the_limit() {
    let mut sim = with_policy(1, DrainPolicy::WaitForCompletion);
    sim.edit(|spec| spec.update_strategy.drain.on_timeout = OnTimeout::Force);
    sim.start(Workload::job("long"));
    upgrade(&mut sim, "13.1.0");
    sim.pass(80_000);
    assert_eq!((sim.phase("n1"), evictions(&sim)), (Some(Phase::Waiting), 0));
    sim.until_phase("n1", Phase::UpToDate);
}

#[rstest]
#[case(DrainPolicy::Evict)]
#[case(DrainPolicy::WaitThenEvict)]
fn a_budget_that_forbids_eviction_costs_no_capacity(#[case] policy: DrainPolicy) {
    let mut sim = with_policy(3, policy);
    sim.start(Workload::job("db").on("n1"));
    sim.budgets.push(Budget::over("db", 1));
    sim.project_holders();
    upgrade(&mut sim, "13.1.0");
    sim.until("the others", |sim| ["n2", "n3"].iter().all(|n| sim.phase(n) == Some(Phase::UpToDate)));
    sim.pass(600);
    assert_eq!(reason(&sim, "n1"), Some(Reason::DisruptionBudget), "{}", message(&sim, "n1"));
    assert!(message(&sim, "n1").contains("jobs/db"));
    sim.assert_runs("n1", "13.0.0");
    assert!(sim.node("n1").allocatable["hpe.com/cxi"] > 1, "it still offers everything");
    assert_eq!(evictions(&sim), 0);
    sim.budgets.clear();
    sim.project_holders();
    sim.until_phase("n1", Phase::UpToDate);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn pods_of_a_budget_that_never_allows_them_all_go_one_after_the_other() {
    let mut sim = evicting(2);
    sim.start(Workload { replicas: 2, ..Workload::job("db").on("n1") });
    sim.workloads[0].node = None;
    sim.budgets.push(Budget::over("db", 1));
    sim.project_holders();
    upgrade(&mut sim, "13.1.0");
    let mut fewest = 2;
    sim.until_phase("n1", Phase::Evicting);
    while sim.phase("n1") != Some(Phase::UpToDate) {
        sim.round();
        fewest = fewest.min(sim.pods.iter().filter(|pod| pod.holder.started && pod.holder.ends.is_none()).count());
    }
    assert!(fewest >= 1, "the budget was not kept");
    assert!(evictions(&sim) >= 2, "both were evicted\n{}", sim.describe());
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_budget_that_closes_after_admission_is_named_and_the_node_given_back() {
    let mut sim = evicting(1);
    sim.start(Workload { grace: seconds(60), ..Workload::job("db") });
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    sim.budgets.push(Budget::over("db", 1));
    sim.project_holders();
    sim.until("named", |sim| reason(sim, "n1") == Some(Reason::DisruptionBudget));
    assert!(message(&sim, "n1").contains("jobs/db"));
    sim.until_phase("n1", Phase::Pending);
    sim.assert_runs("n1", "13.0.0");
    assert_eq!(sim.pods.len(), 1);
    sim.budgets.clear();
    sim.project_holders();
    sim.until_phase("n1", Phase::UpToDate);
}

#[test]
fn two_budgets_over_one_pod_are_refused_beforehand() {
    let mut sim = evicting(1);
    sim.start(Workload::job("db").on("n1"));
    for name in ["one", "two"] {
        sim.budgets.push(Budget { name: name.into(), ..Budget::over("db", 0) });
    }
    sim.project_holders();
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(reason(&sim, "n1"), Some(Reason::MultipleDisruptionBudgets));
    sim.assert_runs("n1", "13.0.0");
}

#[test]
fn budgets_of_several_nodes_are_added_up() {
    let mut sim = evicting(4);
    sim.edit(|spec| {
        spec.update_strategy.max_unavailable = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(4);
    });
    for node in ["n1", "n2", "n3", "n4"] {
        sim.start(Workload::job(node).on(node));
    }
    let all = ["n1", "n2", "n3", "n4"].map(str::to_owned).to_vec();
    sim.budgets.push(Budget { workloads: all, ..Budget::over("most", 3) });
    sim.project_holders();
    upgrade(&mut sim, "13.1.0");
    let mut most = 0;
    while sim.driver().status.state.as_deref() != Some("Ready") || sim.driver().status.updated < 4 {
        sim.round();
        let up = sim.pods.iter().filter(|pod| pod.holder.ends.is_none()).count();
        most = most.max(4 - up.min(4));
    }
    assert!(most <= 1, "{most} pods were away at once");
}

#[test]
fn a_protected_pod_is_waited_for() {
    let mut sim = evicting(2);
    sim.edit(|spec| {
        let labels = [("app".to_owned(), "precious".to_owned())].into();
        let selector = LabelSelector { match_labels: Some(labels), match_expressions: None };
        spec.update_strategy.drain.protected_pods = Some(selector);
    });
    sim.start(Workload::job("precious").on("n1"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_up_to_date("n2");
    assert_eq!(reason(&sim, "n1"), Some(Reason::ProtectedPod));
    assert!(message(&sim, "n1").contains("precious"));
    sim.workloads.clear();
    sim.pods.clear();
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(evictions(&sim), 0);
}

#[rstest]
#[case(Kind::DaemonSet, Reason::DaemonSetHolder)]
#[case(Kind::Static, Reason::StaticPodHolder)]
fn a_pod_that_would_come_back_at_once_is_named(#[case] kind: Kind, #[case] why: Reason) {
    let mut sim = evicting(2);
    sim.start(Workload::job("resident").on("n1").of_kind(kind));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_up_to_date("n2");
    assert_eq!(reason(&sim, "n1"), Some(why));
    sim.assert_runs("n1", "13.0.0");
    assert_eq!(evictions(&sim), 0);
}

/// On a closed node nothing fits, so a controller that is pinned to it has to wait.
#[test]
fn a_pod_that_is_made_again_at_once_waits_for_the_node() {
    let mut sim = evicting(1);
    sim.start(Workload::job("keen").on("n1"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!((evictions(&sim), sim.pods.len()), (1, 1));
}
