//! Processes outside Kubernetes that hold the device, and what comes of an unload that gets stuck on one.

use cxi_api::{Phase, Reason};

use super::{evicting, message, reason, upgrade};
use crate::sim::{Sim, Workload, build::spec};

#[test]
fn a_process_seen_before_keeps_the_node_from_being_touched() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.open_device("n1", "fi_pingpong");
    sim.settle();
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_up_to_date("n2");
    assert_eq!((sim.phase("n1"), reason(&sim, "n1")), (Some(Phase::Pending), Some(Reason::HostHolder)));
    assert!(message(&sim, "n1").contains("4711") && message(&sim, "n1").contains("fi_pingpong"));
    assert!(sim.node("n1").allocatable["hpe.com/cxi"] > 0);
    sim.close_device("n1");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn beside_a_pod_that_will_be_evicted_it_is_the_process_that_is_named() {
    let mut sim = evicting(1);
    sim.start(Workload::job("job").on("n1"));
    sim.settle();
    sim.open_device("n1", "fi_pingpong");
    sim.settle();
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(reason(&sim, "n1"), Some(Reason::HostHolder));
    assert!(message(&sim, "n1").contains("fi_pingpong"), "{}", message(&sim, "n1"));
    sim.close_device("n1");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_process_that_comes_while_the_node_is_closed_sends_it_back() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    sim.open_device("n1", "fi_pingpong");
    sim.until("given back", |sim| sim.phase("n1") == Some(Phase::Pending));
    assert_eq!(reason(&sim, "n1"), Some(Reason::HostHolder));
    assert!(message(&sim, "n1").contains("fi_pingpong"), "{}", message(&sim, "n1"));
    sim.assert_runs("n1", "13.0.0");
    sim.close_device("n1");
    sim.until_phase("n1", Phase::UpToDate);
}

fn stuck() -> Sim {
    let mut sim = evicting(2);
    upgrade(&mut sim, "13.1.0");
    sim.until("the label is gone", |sim| {
        sim.phase("n1") == Some(Phase::Unloading) && crate::sim::apply::version_labels(sim.node("n1")).is_empty()
    });
    sim.open_device("n1", "fi_pingpong");
    sim.until("named", |sim| reason(sim, "n1") == Some(Reason::UnloadStuck));
    assert!(message(&sim, "n1").contains("fi_pingpong"), "{}", message(&sim, "n1"));
    assert_eq!(sim.node("n1").allocatable["hpe.com/cxi"], 0, "it stays closed");
    sim
}

#[test]
fn a_stuck_unload_goes_on_by_itself_when_the_holder_leaves() {
    let mut sim = stuck();
    sim.close_device("n1");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_stuck_unload_fails_at_the_deadline_without_rollback_and_a_reboot_is_the_way_out() {
    let mut sim = stuck();
    sim.until_phase("n1", Phase::Quarantined);
    sim.settle();
    sim.assert_runs("n2", "13.0.0");
    assert_eq!(reason(&sim, "n2"), Some(Reason::Halted));
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.0.0"), "nothing was forced");
    sim.reboot("n1");
    sim.ask("n1", "retry");
    sim.resume();
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_reboot_frees_a_stuck_unload() {
    let mut sim = stuck();
    sim.reboot("n1");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_label_set_by_hand_during_a_stuck_unload_is_put_right() {
    let mut sim = stuck();
    sim.version_label_by_hand("n1", "13.0.0");
    sim.pass(30);
    sim.close_device("n1");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn the_new_label_set_too_early_by_hand_is_put_right() {
    let mut sim = stuck();
    sim.version_label_by_hand("n1", "13.1.0");
    sim.pass(60);
    sim.close_device("n1");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_holder_that_no_process_shows_is_called_that_and_not_a_silent_agent() {
    let mut sim = evicting(1);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    sim.machine_mut("n1").hidden = 2;
    sim.until("it is said", |sim| reason(sim, "n1") == Some(Reason::HostHolder));
    assert!(message(&sim, "n1").contains("in use (2 references to cxi_user)"), "{}", message(&sim, "n1"));
    sim.until("given back", |sim| sim.phase("n1") == Some(Phase::Pending));
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.0.0"));
    sim.machine_mut("n1").hidden = 0;
    sim.settle();
    sim.assert_all_up_to_date();
}
