//! When nothing goes wrong.

use cxi_api::{Outcome, Phase, names::UPGRADE_PENDING_TAINT};
use cxi_rollout::Action;
use rstest::rstest;

use super::{condition, evicting, evictions, upgrade};
use crate::sim::{Sim, Workload, build::spec};

/// The bound that the product promises.
const WRITES_PER_NODE: usize = 25;

#[rstest]
#[case(1)]
#[case(6)]
fn a_new_driver_is_installed_everywhere(#[case] nodes: usize) {
    let mut sim = Sim::new(nodes, spec("13.0.0"));
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(condition(&sim, "Available") && !condition(&sim, "Progressing") && !condition(&sim, "Blocked"));
    assert_eq!(sim.driver().status.version.as_deref(), Some("13.0.0"));
    assert_eq!(sim.driver().status.state.as_deref(), Some("Ready"));
}

#[rstest]
#[case(3)]
#[case(6)]
fn idle_nodes_are_upgraded_within_the_bound_of_writes(#[case] nodes: usize) {
    let mut sim = Sim::installed(nodes, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(sim.api.nodes.values().all(|node| node.taints.iter().all(|taint| taint.key != UPGRADE_PENDING_TAINT)));
    let total: usize = sim.writes.values().sum();
    println!("{nodes} nodes: {total} writes, {} per node: {:?}", total.div_ceil(nodes), sim.writes);
    assert!(total <= WRITES_PER_NODE * nodes, "{total} writes for {nodes} nodes: {:?}", sim.writes);
}

#[test]
fn a_cluster_at_rest_is_left_alone() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.pass(100_000);
    assert_eq!(sim.writes.values().sum::<usize>(), 0, "{:?}", sim.writes);
}

#[test]
fn nodes_without_running_jobs_go_first_and_jobs_move_to_finished_nodes() {
    let mut sim = evicting(3);
    sim.start(Workload::job("a").on("n1"));
    sim.workloads[0].node = None;
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(evictions(&sim), 1);
    assert_eq!(sim.pods.len(), 1);
}

#[test]
fn a_finished_node_has_its_story() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    let record = sim.node("n1").rollout().unwrap();
    assert_eq!(record.history.iter().map(|entry| &entry.result).collect::<Vec<_>>(), [&Outcome::Verified; 2]);
    assert_eq!((record.phase, record.attempt), (Phase::UpToDate, 2));
}

#[test]
fn kmm_that_is_seen_before_the_label_it_follows_is_waited_for() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    let loads = |sim: &Sim| sim.phase("n1") == Some(Phase::Loading) && !sim.node("n1").workers.is_empty();
    sim.until("KMM loads", loads);
    // Each kind is watched by itself: the Node may come later than the pod of KMM's worker.
    let mut world = sim.api.clone();
    let labels = &mut world.nodes.get_mut("n1").unwrap().labels;
    labels.retain(|key, _| !key.starts_with("kmm.node.kubernetes.io/version-module."));
    let called_off = |action: &Action| matches!(action, Action::WriteRollout { .. } | Action::Unload { .. });
    let plan = sim.plan(&world);
    assert!(!plan.actions.iter().any(called_off), "{:?}", plan.actions);
    sim.settle();
    sim.assert_all_up_to_date();
}
