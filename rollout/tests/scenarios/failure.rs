//! A driver that does not load, does not verify, or does not bring its links up: roll back, halt, resume.

use cxi_api::{Phase, Reason, names::Role};
use rstest::rstest;

use super::{condition, evictions, message, reason, upgrade};
use crate::sim::{KERNEL, Sim, Workload, build::spec};

fn halted(sim: &Sim) -> bool {
    sim.driver().status.rollout.as_ref().is_some_and(|rollout| rollout.halted.is_some())
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    LoadFails,
    LinksStayDown,
    AnotherDriver,
    PluginDoesNotComeBack,
}

fn inflict(sim: &mut Sim, node: &str, fault: Fault) {
    let machine = sim.machine_mut(node);
    match fault {
        Fault::LoadFails => drop(machine.bad_versions.insert("13.1.0".into())),
        Fault::LinksStayDown => drop(machine.dark_versions.insert("13.1.0".into())),
        Fault::AnotherDriver => drop(machine.impostors.insert("13.1.0".into(), "12.9.9".into())),
        Fault::PluginDoesNotComeBack => machine.plugin_broken_with = Some("13.1.0".into()),
    }
}

#[rstest]
#[case(Fault::LoadFails)]
#[case(Fault::LinksStayDown)]
#[case(Fault::AnotherDriver)]
#[case(Fault::PluginDoesNotComeBack)]
fn a_failed_node_goes_back_and_the_rollout_halts(#[case] fault: Fault) {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    inflict(&mut sim, "n1", fault);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(halted(&sim) && condition(&sim, "Halted") && condition(&sim, "Degraded"), "{}", sim.describe());
    for node in ["n1", "n2", "n3"] {
        sim.assert_runs(node, "13.0.0");
    }
    assert_eq!(sim.node("n2").rollout().unwrap().attempt, 1, "the others are not touched");
    assert_eq!(reason(&sim, "n1"), Some(Reason::Failed), "{}", message(&sim, "n1"));
    assert_eq!(reason(&sim, "n2"), Some(Reason::Halted));
    assert_eq!(sim.driver().status.failed, 1);
    let events: Vec<&str> =
        sim.events.iter().filter(|event| event.warning).map(|event| event.reason.as_str()).collect();
    assert!(events.contains(&"RolloutHalted") && events.contains(&"DriverFailed"), "{events:?}");
    let story: Vec<String> =
        sim.node("n1").rollout().unwrap().history.iter().map(|entry| entry.result.to_string()).collect();
    assert!(story.last().is_some_and(|last| last == "RolledBack"), "{story:?}");

    *sim.machine_mut("n1") = crate::sim::Machine { plugin_broken_with: None, ..sim.machines["n1"].clone() };
    let machine = sim.machine_mut("n1");
    machine.bad_versions.clear();
    machine.dark_versions.clear();
    machine.impostors.clear();
    sim.resume();
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(!condition(&sim, "Halted") && !condition(&sim, "Degraded"));
}

/// The device plugin offers less than it should, and a job takes what there is: it is evicted before the node goes back.
#[test]
fn jobs_that_came_to_a_node_that_is_not_back_are_evicted_before_it_goes_back() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").plugin_lame_with = Some("13.1.0".into());
    sim.edit(|spec| spec.update_strategy.drain.policy = cxi_api::strategy::DrainPolicy::Evict);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Returning);
    sim.until("it offers", |sim| sim.node("n1").allocatable["hpe.com/cxi"] > 0);
    sim.start(Workload::job("job").on("n1"));
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
    assert!(halted(&sim), "{}", sim.describe());
    assert_eq!(evictions(&sim), 1);
}

/// The same while the device plugin could not be replaced yet: the driver has not failed.
#[test]
fn a_driver_does_not_fail_for_a_device_plugin_that_could_not_be_replaced() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Loading);
    sim.api.agent_policy = cxi_rollout::world::AgentPolicy::Unknown;
    sim.edit(|spec| spec.device_plugin.resource_name = "hpe.com/nic".into());
    sim.pass(3600);
    assert_eq!((sim.phase("n1"), reason(&sim, "n1")), (Some(Phase::Returning), Some(Reason::NotAdvertised)));
    assert!(!halted(&sim), "{}", sim.describe());
    sim.api.agent_policy = cxi_rollout::world::AgentPolicy::InForce;
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn what_a_failed_load_leaves_behind_is_taken_out_before_the_old_driver_comes_back() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    inflict(&mut sim, "n1", Fault::LoadFails);
    upgrade(&mut sim, "13.1.0");
    sim.until("leftovers", |sim| sim.machines["n1"].modules.len() == 2);
    sim.until_phase("n1", Phase::RollingBack);
    sim.until("clean-up", |sim| sim.node("n1").pods.iter().any(|pod| pod.role == Role::Cleanup));
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
    let stays = |role| matches!(role, Role::DevicePlugin | Role::RetryHandler);
    assert!(sim.node("n1").pods.iter().all(|pod| stays(pod.role)), "swept up");
}

#[test]
fn leftovers_that_stay_mean_quarantine_and_a_reboot_helps() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    inflict(&mut sim, "n1", Fault::LoadFails);
    sim.machine_mut("n1").cleanup_fails = true;
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(sim.phase("n1"), Some(Phase::Quarantined));
    assert!(message(&sim, "n1").contains("reboot"), "{}", message(&sim, "n1"));
    assert!(halted(&sim));
    sim.machine_mut("n1").bad_versions.clear();
    sim.reboot("n1");
    sim.ask("n1", "retry");
    sim.resume();
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn without_rollback_a_failed_node_stays_closed() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.edit(|spec| spec.update_strategy.rollback_on_failure = false);
    inflict(&mut sim, "n1", Fault::LinksStayDown);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(sim.phase("n1"), Some(Phase::Quarantined));
    sim.assert_runs("n2", "13.0.0");
    // The old version in the spec brings it back without anybody's hand.
    upgrade(&mut sim, "13.0.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn max_failed_counts_failures_before_it_halts() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    sim.edit(|spec| spec.update_strategy.max_failed = 2);
    for node in ["n1", "n2"] {
        inflict(&mut sim, node, Fault::LoadFails);
    }
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(halted(&sim));
    assert_eq!(sim.driver().status.rollout.as_ref().unwrap().failed.len(), 2);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.assert_runs(node, "13.0.0");
    }
}

#[test]
fn nodes_in_flight_when_it_halts_are_given_back_or_finish() {
    let mut sim = Sim::installed(6, spec("13.0.0"));
    sim.edit(|spec| {
        spec.update_strategy.max_unavailable = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(3);
    });
    inflict(&mut sim, "n1", Fault::LoadFails);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(halted(&sim));
    let failed: Vec<String> =
        sim.driver().status.rollout.as_ref().unwrap().failed.iter().map(|failed| failed.node.clone()).collect();
    assert_eq!(failed, ["n1"]);
    for node in sim.node_names() {
        assert!(sim.phase(&node).is_some_and(Phase::is_settled));
        assert!(sim.node(&node).allocatable["hpe.com/cxi"] > 0);
    }
}

#[test]
fn a_first_installation_that_fails_has_nowhere_to_go_back_to() {
    let mut sim = Sim::new(2, spec("13.1.0"));
    inflict(&mut sim, "n1", Fault::LoadFails);
    sim.settle();
    assert_eq!(sim.phase("n1"), Some(Phase::Quarantined));
    assert!(halted(&sim));
    sim.machine_mut("n1").bad_versions.clear();
    sim.ask("n1", "retry");
    sim.settle();
    sim.assert_up_to_date("n1");
}

#[test]
fn a_new_version_is_a_new_chance() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    inflict(&mut sim, "n1", Fault::LoadFails);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(halted(&sim));
    upgrade(&mut sim, "13.2.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn retry_is_for_one_node_and_counts_once() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    inflict(&mut sim, "n1", Fault::LoadFails);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.ask("n1", "retry");
    sim.settle();
    assert_eq!(sim.node("n1").rollout().unwrap().attempt, 3, "{}", sim.describe());
    assert_eq!(reason(&sim, "n1"), Some(Reason::Failed));
    sim.machine_mut("n1").bad_versions.clear();
    sim.unlabel("n1", cxi_api::names::UPGRADE_LABEL);
    sim.settle();
    sim.ask("n1", "retry");
    sim.settle();
    sim.assert_up_to_date("n1");
    assert_eq!(reason(&sim, "n2"), Some(Reason::Halted), "retry of one node does not resume the rollout");
}

#[test]
fn the_old_image_of_a_rollback_that_is_gone_is_said() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    inflict(&mut sim, "n1", Fault::LinksStayDown);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::RollingBack);
    sim.image("13.0.0", KERNEL, false);
    sim.until("named", |sim| reason(sim, "n1") == Some(Reason::ImageMissing));
    sim.image("13.0.0", KERNEL, true);
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
}
