//! Who may go and when: budget, pause, freeze, and what administrators ask of single nodes.

use cxi_api::{Phase, Reason, strategy::UpdateType};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rstest::rstest;

use super::{reason, upgrade};
use crate::sim::{Sim, build::spec, jobs::Workload};

fn most_in_flight(sim: &mut Sim) -> usize {
    let mut most = 0;
    for _ in 0..3000 {
        sim.round();
        most = most.max(sim.driver().status.rollout.as_ref().map_or(0, |rollout| rollout.in_flight.len()));
        if sim.driver().status.updated == sim.driver().status.total {
            break;
        }
    }
    most
}

#[rstest]
#[case(IntOrString::Int(1), 1)]
#[case(IntOrString::Int(3), 3)]
#[case(IntOrString::String("10%".into()), 1)]
#[case(IntOrString::String("50%".into()), 4)]
#[case(IntOrString::String("100%".into()), 8)]
fn the_budget_is_used_and_not_exceeded(#[case] budget: IntOrString, #[case] at_once: usize) {
    let mut sim = Sim::installed(8, spec("13.0.0"));
    sim.edit(|spec| spec.update_strategy.max_unavailable = budget);
    upgrade(&mut sim, "13.1.0");
    assert_eq!(most_in_flight(&mut sim), at_once);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn nodes_that_are_down_for_other_reasons_count() {
    let mut sim = Sim::installed(6, spec("13.0.0"));
    sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(2));
    sim.node_mut("n6").ready = false;
    sim.settle();
    upgrade(&mut sim, "13.1.0");
    let mut most = 0;
    for _ in 0..2000 {
        sim.round();
        most = most.max(sim.driver().status.rollout.as_ref().map_or(0, |rollout| rollout.in_flight.len()));
    }
    assert_eq!(most, 1);
    assert_eq!(sim.driver().status.updated, 5);
    assert_eq!(reason(&sim, "n6"), Some(Reason::NotReady));
    sim.node_mut("n6").ready = true;
    sim.settle();
    sim.assert_all_up_to_date();
}

/// A newer operator replaces the device plugins while a rollout goes on: for a moment their nodes offer nothing, and are no freer
/// to be taken than before.
#[rstest]
#[case::idle(false)]
#[case::with_a_job(true)]
fn a_device_plugin_that_is_being_replaced_makes_no_node_free_to_be_taken(#[case] job: bool) {
    let mut sim = Sim::installed(8, spec("13.0.0"));
    if job {
        sim.start(Workload::job("a").on("n8"));
        sim.settle();
    }
    sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(2));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Verifying);
    for node in sim.node_names() {
        sim.machine_mut(&node).plugin_away = true;
    }
    let most = |sim: &mut Sim| {
        let most = (0..6).map(|_| {
            sim.pass(1);
            sim.driver().status.rollout.as_ref().map_or(0, |rollout| rollout.in_flight.len())
        });
        most.max().unwrap()
    };
    assert!(most(&mut sim) <= 2);
    for node in sim.node_names() {
        sim.machine_mut(&node).plugin_away = false;
    }
    assert_eq!(most_in_flight(&mut sim), 2);
    sim.settle();
    sim.assert_all_up_to_date();
}

/// Nodes whose links are down serve nobody new, but the jobs there are lost no faster than the budget allows.
#[test]
fn jobs_on_nodes_that_serve_nobody_new_are_within_the_budget() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    for node in sim.node_names() {
        sim.start(Workload::job(&node).on(&node));
    }
    sim.settle();
    for node in sim.node_names() {
        sim.machine_mut(&node).dark_versions.insert("13.0.0".into());
    }
    sim.settle();
    sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(1));
    upgrade(&mut sim, "13.1.0");
    assert_eq!(most_in_flight(&mut sim), 1);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[rstest]
#[case::paused(false)]
#[case::frozen(true)]
fn pause_and_freeze_stop_admission_and_nodes_in_flight_finish(#[case] freeze: bool) {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Quiesced);
    sim.edit(|spec| {
        if freeze {
            spec.update_strategy.max_unavailable = IntOrString::Int(0);
        } else {
            spec.paused = true;
        }
    });
    sim.settle();
    sim.assert_up_to_date("n1");
    for node in ["n2", "n3"] {
        assert_eq!(reason(&sim, node), Some(if freeze { Reason::Frozen } else { Reason::Paused }));
        sim.assert_runs(node, "13.0.0");
    }
    sim.edit(|spec| {
        spec.paused = false;
        spec.update_strategy.max_unavailable = IntOrString::Int(1);
    });
    sim.settle();
    sim.assert_all_up_to_date();
}

#[rstest]
#[case::paused(true, IntOrString::Int(1))]
#[case::frozen(false, IntOrString::Int(0))]
fn pause_and_freeze_stop_a_deletion_too(#[case] paused: bool, #[case] budget: IntOrString) {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.edit(|spec| {
        spec.paused = paused;
        spec.update_strategy.max_unavailable = budget;
    });
    sim.delete_driver("cxi");
    sim.settle();
    for node in ["n1", "n2"] {
        sim.assert_runs(node, "13.0.0");
        assert_eq!(reason(&sim, node), Some(if paused { Reason::Paused } else { Reason::Frozen }));
    }
    sim.edit(|spec| {
        spec.paused = false;
        spec.update_strategy.max_unavailable = IntOrString::Int(1);
    });
    sim.settle();
    assert!(sim.machines.values().all(|machine| machine.modules.is_empty()), "{}", sim.describe());
}

#[test]
fn on_delete_moves_only_nodes_that_are_asked() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.edit(|spec| spec.update_strategy.kind = UpdateType::OnDelete);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(["n1", "n2", "n3"].iter().all(|node| reason(&sim, node) == Some(Reason::OnDelete)));
    sim.ask("n2", "now");
    sim.settle();
    sim.assert_up_to_date("n2");
    sim.assert_runs("n1", "13.0.0");
    sim.assert_runs("n3", "13.0.0");
    // A node without a driver is not one to wait for.
    sim.add_node("n4");
    sim.settle();
    sim.assert_up_to_date("n4");
}

#[test]
fn skip_leaves_a_node_out() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.ask("n1", "skip");
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(reason(&sim, "n1"), Some(Reason::Skip));
    sim.assert_runs("n1", "13.0.0");
    sim.unlabel("n1", cxi_api::names::UPGRADE_LABEL);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn rollback_brings_one_node_back_to_the_previous_revision() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.ask("n1", "rollback");
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
    sim.assert_runs("n2", "13.1.0");
    assert!(sim.phase("n1").is_some_and(Phase::is_settled), "{}", sim.describe());
    sim.unlabel("n1", cxi_api::names::UPGRADE_LABEL);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn asked_nodes_go_first() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    sim.ask("n4", "now");
    upgrade(&mut sim, "13.1.0");
    sim.until("somebody", |sim| sim.api.nodes.values().any(|node| sim.phase(&node.name) == Some(Phase::Admitted)));
    assert_eq!(sim.phase("n4"), Some(Phase::Admitted));
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn the_operators_own_node_is_last() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.api.own_node = Some("n1".into());
    upgrade(&mut sim, "13.1.0");
    sim.until("two done", |sim| sim.driver().status.updated == 2);
    assert_ne!(sim.phase("n1"), Some(Phase::UpToDate));
    sim.settle();
    sim.assert_all_up_to_date();
}
