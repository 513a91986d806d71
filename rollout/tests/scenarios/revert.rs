//! A change of mind in the middle: the old version again, or a third one.

use cxi_api::{Phase, strategy::DrainPolicy};
use rstest::rstest;

use super::{BEFORE_UNLOADING, upgrade};
use crate::sim::{KERNEL, Sim, Workload, build::spec, seconds};

/// A node that stays long enough in each phase to be caught there.
fn one_node_with_a_job() -> Sim {
    let mut wanted = spec("13.0.0");
    wanted.update_strategy.drain.policy = DrainPolicy::WaitThenEvict;
    let mut sim = Sim::installed(1, wanted);
    sim.start(Workload { stubborn: true, grace: seconds(60), ..Workload::job("job") });
    sim
}

fn boot_loads(sim: &Sim) -> usize {
    sim.writes.get("version label").copied().unwrap_or(0)
}

#[test]
fn before_unloading_the_node_comes_back_without_a_reload() {
    for phase in BEFORE_UNLOADING {
        let mut sim = one_node_with_a_job();
        upgrade(&mut sim, "13.1.0");
        sim.until_phase("n1", phase);
        sim.writes.clear();
        upgrade(&mut sim, "13.0.0");
        sim.settle();
        sim.assert_all_up_to_date();
        assert_eq!(boot_loads(&sim), 0, "reverted in {phase}");
    }
}

#[rstest]
#[case(Phase::Loading)]
#[case(Phase::Verifying)]
#[case(Phase::Returning)]
fn later_it_goes_back_by_the_same_road(#[case] phase: Phase) {
    let mut sim = one_node_with_a_job();
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", phase);
    upgrade(&mut sim, "13.0.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn in_unloading_whatever_is_wanted_then_is_loaded() {
    let mut sim = one_node_with_a_job();
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Unloading);
    sim.writes.clear();
    upgrade(&mut sim, "13.0.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(boot_loads(&sim) <= 2, "one reload at most: {:?}", sim.writes);
}

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
fn a_third_version_in_the_middle(#[case] phase: Phase) {
    let mut sim = one_node_with_a_job();
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", phase);
    upgrade(&mut sim, "13.2.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[rstest]
#[case::links_stay_down(Phase::Verifying)]
#[case::the_driver_does_not_load(Phase::Loading)]
fn what_nobody_wants_any_more_cannot_fail(#[case] phase: Phase) {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    let machine = sim.machine_mut("n1");
    match phase {
        Phase::Loading => drop(machine.bad_versions.insert("13.1.0".into())),
        _ => drop(machine.dark_versions.insert("13.1.0".into())),
    }
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", phase);
    upgrade(&mut sim, "13.0.0");
    let reverted = sim.now;
    sim.settle();
    sim.assert_all_up_to_date();
    let took = sim.node("n1").rollout().unwrap().since.duration_since(reverted);
    assert!(took < spec("13.0.0").update_strategy.health_check_timeout.0.try_into().unwrap(), "it took {took}");
    let status = &sim.driver().status;
    assert!(status.failed == 0 && status.rollout.as_ref().unwrap().halted.is_none(), "{}", sim.describe());
}

#[test]
fn a_third_version_that_cannot_be_had_takes_no_driver_away() {
    let mut sim = one_node_with_a_job();
    sim.image("13.2.0", KERNEL, false);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Unloading);
    upgrade(&mut sim, "13.2.0");
    sim.settle();
    sim.assert_runs("n1", "13.1.0");
    assert!(sim.node("n1").allocatable["hpe.com/cxi"] > 0, "{}", sim.describe());
    sim.image("13.2.0", KERNEL, true);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn foreign_images_go_back_as_well() {
    let mut sim = one_node_with_a_job();
    sim.foreign.extend(["13.0.0".to_owned(), "13.1.0".to_owned()]);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Unloading);
    upgrade(&mut sim, "13.0.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn half_way_through_everything_goes_back_under_the_same_budget() {
    let mut sim = Sim::installed(5, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until("two done", |sim| sim.driver().status.updated == 2);
    upgrade(&mut sim, "13.0.0");
    sim.settle();
    sim.assert_all_up_to_date();
    let untouched = ["n4", "n5"].iter().filter(|node| sim.node(node).rollout().unwrap().attempt == 1).count();
    assert_eq!(untouched, 2);
}

#[test]
fn old_revisions_are_kept_for_rollback_and_then_deleted() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    for version in ["13.1.0", "13.2.0", "13.3.0", "13.4.0"] {
        upgrade(&mut sim, version);
        sim.settle();
        sim.assert_all_up_to_date();
    }
    let mut versions: Vec<&str> = sim.api.revisions.iter().map(|revision| revision.version.as_str()).collect();
    versions.sort_unstable();
    assert_eq!(versions, ["13.2.0", "13.3.0", "13.4.0"]);
}
