//! Nodes that come, go, come back under the same name, and node agents that are silent.

use cxi_api::{Phase, Reason};
use rstest::rstest;

use super::{reason, upgrade};
use crate::sim::{Sim, build::spec};

#[test]
fn nodes_with_earlier_operands_are_counted_and_those_that_are_down_are_named() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    assert!(super::condition(&sim, "OperandsUpdated"));
    sim.driver_mut("cxi").pods_outdated = [(cxi_api::names::Role::Agent, 1)].into();
    sim.node_mut("n2").ready = false;
    sim.pass(10);
    let said = sim.driver().status.conditions.iter().find(|one| one.type_ == "OperandsUpdated").unwrap().clone();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "RollingOut"));
    assert!(said.message.contains("node agent on 1") && said.message.contains("n2"), "{}", said.message);
}

#[test]
fn a_new_node_gets_the_driver() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.add_node("n3");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.driver().status.total, 3);
}

#[rstest]
#[case(Phase::Admitted)]
#[case(Phase::Closing)]
#[case(Phase::Quiesced)]
#[case(Phase::Unloading)]
#[case(Phase::Loading)]
#[case(Phase::Verifying)]
#[case(Phase::Returning)]
fn a_node_deleted_in_flight_leaves_the_ledger(#[case] phase: Phase) {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", phase);
    sim.delete_node("n1");
    sim.settle();
    assert_eq!(sim.driver().status.total, 2);
    sim.assert_all_up_to_date();
}

#[rstest]
#[case(Phase::Admitted)]
#[case(Phase::Unloading)]
#[case(Phase::Verifying)]
fn a_node_recreated_under_the_same_name_is_another_node(#[case] phase: Phase) {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", phase);
    let stale = sim.node("n1").record.clone().map(|record| record.uid);
    sim.delete_node("n1");
    sim.add_node("n1");
    // The garbage collector has not been there yet.
    sim.node_mut("n1").stale_record = stale;
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.node("n1").rollout().unwrap().attempt, 1);
}

#[test]
fn without_an_agent_nothing_is_begun() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").agent_silent = true;
    if let Some(record) = &mut sim.node_mut("n1").record {
        record.report = None;
    }
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(reason(&sim, "n1"), Some(Reason::AgentSilent));
    sim.assert_runs("n1", "13.0.0");
    sim.assert_up_to_date("n2");
    sim.machine_mut("n1").agent_silent = false;
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn an_agent_that_falls_silent_while_the_node_is_closed_is_named_and_the_node_given_back() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    sim.machine_mut("n1").agent_silent = true;
    sim.until("named", |sim| reason(sim, "n1") == Some(Reason::AgentSilent));
    sim.until_phase("n1", Phase::Pending);
    sim.assert_runs("n1", "13.0.0");
    sim.machine_mut("n1").agent_silent = false;
    sim.until_phase("n1", Phase::UpToDate);
}

#[test]
fn foreign_cordons_taints_and_labels_stay_as_they_are() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    let taint = cxi_rollout::world::Taint { key: "x".into(), value: "y".into(), effect: "NoExecute".into() };
    sim.node_mut("n2").taints.push(taint.clone());
    sim.label("n2", "who", "me");
    sim.node_mut("n3").cordoned = true;
    sim.edit(|spec| {
        spec.update_strategy.max_unavailable = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(2);
    });
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_up_to_date("n1");
    sim.assert_up_to_date("n2");
    assert_eq!(sim.node("n2").taints, [taint]);
    assert_eq!(sim.node("n2").labels["who"], "me");
    assert_eq!(reason(&sim, "n3"), Some(Reason::Cordoned));
    assert!(sim.node("n3").cordoned);
    sim.node_mut("n3").cordoned = false;
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_cordon_in_flight_does_not_stop_the_node() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Quiesced);
    sim.node_mut("n1").cordoned = true;
    sim.settle();
    sim.assert_up_to_date("n1");
    assert!(sim.node("n1").cordoned);
}

#[test]
fn the_clock_may_go_backwards() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    sim.skew = -7200;
    sim.until_phase("n2", Phase::Closing);
    sim.skew = 0;
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn virtual_functions_in_in_guests_serve_although_nothing_tells_their_links() {
    let mut sim = Sim::new(2, spec("13.0.0"));
    for node in sim.node_names() {
        sim.machine_mut(&node).in_guest = true;
    }
    sim.settle();
    sim.assert_all_up_to_date();
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
}
