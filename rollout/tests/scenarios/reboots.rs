//! Reboots in the middle of everything, and into other kernels.

use cxi_api::{Phase, Reason, strategy::DrainPolicy};
use rstest::rstest;

use super::{reason, upgrade};
use crate::sim::{Sim, Workload, build::spec, seconds};

#[rstest]
#[case(Phase::Admitted)]
#[case(Phase::Waiting)]
#[case(Phase::Closing)]
#[case(Phase::Evicting)]
#[case(Phase::Quiesced)]
#[case(Phase::Unloading)]
#[case(Phase::Loading)]
#[case(Phase::Verifying)]
#[case(Phase::Returning)]
fn a_reboot_in_any_phase_costs_time_only(
    #[case] phase: Phase,
    #[values("6.12.1", "6.12.2")] kernel: &str,
    #[values(0, 2)] later: u64,
) {
    let mut wanted = spec("13.0.0");
    wanted.update_strategy.drain.policy = DrainPolicy::WaitThenEvict;
    let mut sim = Sim::installed(2, wanted);
    for node in ["n1", "n2"] {
        sim.start(Workload { stubborn: true, grace: seconds(60), ..Workload::job(node).on(node) });
    }
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", phase);
    sim.pass(later);
    sim.reboot_into("n1", kernel);
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(sim.driver().status.rollout.as_ref().unwrap().failed.is_empty(), "{}", sim.describe());
}

#[test]
fn a_resting_node_that_reboots_is_verified_again() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.reboot("n1");
    sim.until_phase("n1", Phase::Verifying);
    assert_eq!(sim.driver().status.conditions.iter().find(|c| c.type_ == "Available").unwrap().status, "False");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.node("n1").rollout().unwrap().attempt, 1, "no transaction for it");
}

#[test]
fn a_new_kernel_while_held_at_the_old_revision_gets_the_old_driver() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.edit(|spec| spec.paused = true);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.reboot_into("n1", "6.12.2");
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
    assert_eq!(reason(&sim, "n1"), Some(Reason::Paused));
}

#[test]
fn a_new_kernel_without_an_image_says_so_and_the_upgrade_gets_it_out() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.image("13.0.0", "6.12.2", false);
    sim.reboot_into("n1", "6.12.2");
    sim.settle();
    assert_eq!(sim.phase("n1"), Some(Phase::Verifying));
    assert!(reason(&sim, "n1").is_some());
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_node_that_is_not_ready_for_a_while_is_not_a_failure() {
    for phase in [Phase::Closing, Phase::Quiesced, Phase::Unloading, Phase::Loading, Phase::Verifying, Phase::Returning]
    {
        let mut sim = Sim::installed(2, spec("13.0.0"));
        upgrade(&mut sim, "13.1.0");
        sim.until_phase("n1", phase);
        sim.node_mut("n1").ready = false;
        sim.pass(1200);
        sim.node_mut("n1").ready = true;
        sim.settle();
        sim.assert_all_up_to_date();
        let rollout = sim.driver().status.rollout.as_ref().unwrap();
        assert!(rollout.failed.is_empty(), "{phase}: {:?}", rollout.failed);
    }
}

/// The pod that brings the manifest ran before the reboot; another one has to.
#[test]
fn a_reboot_into_a_new_kernel_while_the_manifest_is_fetched() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.node_mut("n1").record = None;
    sim.until("the manifest", |sim| sim.node("n1").pods.iter().any(|pod| pod.role == cxi_api::names::Role::Prefetch));
    sim.environment();
    sim.reboot_into("n1", "6.12.2");
    sim.settle();
    sim.assert_all_up_to_date();
}
