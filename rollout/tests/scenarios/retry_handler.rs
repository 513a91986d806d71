//! The retry handler: it runs while pods may need it, and is gone before the driver is.

use cxi_api::{
    Phase, Reason,
    driver::RetryHandlerMode,
    names::{Role, retry_handler_gate, retry_handler_value},
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
    assert!(serves(&sim, "n1") && sim.node("n1").labels.contains_key(&retry_handler_gate("cxi")));
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn one_that_does_not_end_is_named_and_the_node_given_back() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.machine_mut("n1").retry_handler_stays = true;
    upgrade(&mut sim, "13.1.0");
    sim.until("it is waited for", |sim| reason(sim, "n1") == Some(Reason::RetryHandlerRunning));
    sim.until("it is given back", |sim| message(sim, "n1").contains("did not end in time"));
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.0.0"));
    sim.machine_mut("n1").retry_handler_stays = false;
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

const ANOTHER: &str = "registry/cxi-rh:13.1";

fn runs(sim: &Sim, node: &str, image: &str) -> bool {
    serves(sim, node) && sim.machines[node].serves == Some(retry_handler_value(image))
}

fn pod(sim: &Sim, node: &str) -> Option<String> {
    let pods = &sim.node(node).pods;
    pods.iter().find(|pod| pod.role == Role::RetryHandler && !pod.deleting).map(|pod| pod.uid.clone())
}

#[test]
fn another_image_comes_to_nodes_that_were_drained_for_it_and_reloads_no_driver() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.start(Workload::job("job").on("n1").for_seconds(300));
    sim.pass(5);
    sim.edit(|spec| spec.retry_handler.image = Some(ANOTHER.into()));
    sim.until_phase("n1", Phase::Waiting);
    assert!(runs(&sim, "n1", "registry/cxi-rh"));
    assert_eq!(sim.driver().status.updated, 2, "the idle ones came first");
    sim.settle();
    sim.assert_all_up_to_date();
    for node in ["n1", "n2", "n3"] {
        assert!(runs(&sim, node, ANOTHER), "{node}\n{}", sim.describe());
        assert_eq!(sim.node(node).rollout().unwrap().attempt, 2);
    }
    assert_eq!(sim.writes.get("version label"), None);
}

#[test]
fn another_image_that_is_taken_back_leaves_the_one_that_runs() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.start(Workload::job("job").on("n1").for_seconds(3000));
    sim.pass(5);
    let before = pod(&sim, "n1");
    sim.edit(|spec| spec.retry_handler.image = Some(ANOTHER.into()));
    sim.until_phase("n1", Phase::Waiting);
    sim.edit(|spec| spec.retry_handler.image = Some("registry/cxi-rh".into()));
    sim.until_phase("n1", Phase::UpToDate);
    assert!(before.is_some() && pod(&sim, "n1") == before);
    assert_eq!(sim.pods.len(), 1);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_node_that_goes_back_to_a_driver_gets_its_retry_handler_back() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").bad_versions.insert("13.1.0".into());
    sim.edit(|spec| {
        spec.version = "13.1.0".into();
        spec.retry_handler.image = Some(ANOTHER.into());
    });
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
    assert!(runs(&sim, "n1", "registry/cxi-rh") && runs(&sim, "n2", "registry/cxi-rh"), "{}", sim.describe());
    sim.machine_mut("n1").bad_versions.clear();
    sim.ask("n1", "retry");
    sim.resume();
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(runs(&sim, "n1", ANOTHER) && runs(&sim, "n2", ANOTHER), "{}", sim.describe());
    sim.ask("n2", "rollback");
    sim.settle();
    sim.assert_runs("n2", "13.0.0");
    assert!(runs(&sim, "n2", "registry/cxi-rh"), "{}", sim.describe());
}

#[test]
fn a_retry_handler_that_fails_makes_its_condition_false_even_if_nothing_is_offered() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").retry_handler_fails = true;
    sim.machine_mut("n1").plugin_broken_with = Some("13.0.0".into());
    sim.settle();
    assert_eq!(ready(&sim), Some(says("False", "PodsNotReady")));
    let conditions = &sim.driver().status.conditions;
    let message = &conditions.iter().find(|condition| condition.type_ == "RetryHandlerReady").unwrap().message;
    assert!(message.contains("none is ready on n1"), "{message}");
    // Nobody else's pod stands in for it.
    sim.node_mut("n2").cordoned = true;
    sim.settle();
    assert_eq!(ready(&sim), Some(says("False", "PodsNotReady")));
    sim.machine_mut("n1").retry_handler_fails = false;
    sim.settle();
    assert_eq!(ready(&sim), Some(says("True", "PodsReady")));
}
