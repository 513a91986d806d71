//! The retry handler: it runs while pods may need it, and is gone before the driver is.

use cxi_api::{
    Phase, Reason,
    driver::RetryHandlerMode,
    names::{Role, services_gate},
};

use super::{condition, evicting, message, reason, upgrade};
use crate::sim::{Sim, Workload, build::spec, seconds};

fn serves(sim: &Sim, node: &str) -> bool {
    sim.node(node).pods.iter().any(|pod| pod.role == Role::RetryHandler)
}

fn ready(sim: &Sim) -> Option<(String, String)> {
    let conditions = &sim.driver().status.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == "RetryHandlerReady")?;
    Some((found.status.clone(), found.reason.clone()))
}

fn says(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

#[test]
fn it_is_gone_before_the_driver_and_back_after_it() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    assert!(serves(&sim, "n1") && serves(&sim, "n2") && condition(&sim, "RetryHandlerReady"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Unloading);
    assert!(!serves(&sim, "n1"));
    sim.until_phase("n1", Phase::Verifying);
    assert!(!serves(&sim, "n1"));
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(serves(&sim, "n1") && serves(&sim, "n2") && condition(&sim, "RetryHandlerReady"));
}

#[test]
fn a_pod_that_is_being_evicted_keeps_it() {
    let mut sim = evicting(1);
    sim.start(Workload { stubborn: true, grace: seconds(60), ..Workload::job("slow").on("n1") });
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Evicting);
    assert!(serves(&sim, "n1") && sim.node("n1").labels.contains_key(&services_gate("cxi")));
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn one_that_does_not_end_is_named_and_the_node_given_back() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.machine_mut("n1").services_stay = true;
    upgrade(&mut sim, "13.1.0");
    sim.until("it is waited for", |sim| reason(sim, "n1") == Some(Reason::ServicesRunning));
    sim.until("it is given back", |sim| message(sim, "n1").contains("did not end in time"));
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.0.0"));
    sim.machine_mut("n1").services_stay = false;
    sim.settle();
    sim.assert_all_up_to_date();
    sim.assert_runs("n1", "13.1.0");
}

#[test]
fn another_mode_takes_it_from_a_node_when_no_pod_there_needs_it() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.start(Workload::job("job").on("n1").for_seconds(300));
    sim.edit(|spec| spec.retry_handler.mode = RetryHandlerMode::None);
    sim.until("the idle node is without", |sim| !serves(sim, "n2"));
    sim.pass(60);
    assert!(serves(&sim, "n1"));
    assert_eq!(ready(&sim), Some(says("False", "StillOnNodes")));
    sim.settle();
    assert!(!serves(&sim, "n1"));
    assert_eq!(ready(&sim), None);
    sim.edit(|spec| spec.retry_handler.mode = RetryHandlerMode::Kernel);
    sim.settle();
    assert_eq!(ready(&sim), Some(says("Unknown", "LeftToTheHost")));
    sim.edit(|spec| spec.retry_handler.mode = RetryHandlerMode::Sidecar);
    sim.settle();
    assert_eq!(ready(&sim), Some(says("False", "NotSeenYet")));
    sim.edit(|spec| spec.retry_handler.mode = RetryHandlerMode::Daemonset);
    sim.settle();
    assert!(serves(&sim, "n1") && serves(&sim, "n2") && condition(&sim, "RetryHandlerReady"));
}

#[test]
fn false_stays_false() {
    let mut wanted = spec("13.0.0");
    wanted.retry_handler.enabled = false;
    wanted.metrics_exporter.enabled = false;
    let sim = Sim::installed(1, wanted);
    assert!(!serves(&sim, "n1") && ready(&sim).is_none());
    assert!(!sim.driver().status.conditions.iter().any(|condition| condition.type_ == "MetricsExporterReady"));
}
