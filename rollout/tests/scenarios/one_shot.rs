//! Pods that do one thing on a node and end, on nodes whose kubelet does not run them: that says nothing of images, modules or hosts.

use cxi_api::{Phase, Reason, driver::SourceType, names::Role};
use rstest::rstest;

use super::{message, reason, upgrade};
use crate::sim::{KERNEL, Sim, build::spec};

const FULL: &str = "OutOfpods: Node didn't have enough resource: pods";

fn refuse(sim: &mut Sim, why: Option<&str>) {
    sim.machine_mut("n1").refuses_pods = why.map(str::to_owned);
}

fn retry_after(sim: &Sim) -> i64 {
    let record = sim.node("n1").rollout().unwrap();
    record.pause.as_ref().map_or(0, |pause| pause.until.as_second() - sim.now.as_second())
}

fn history(sim: &Sim) -> Vec<String> {
    sim.node("n1").rollout().unwrap().history.iter().map(|entry| entry.result.to_string()).collect()
}

#[test]
fn a_prefetch_pod_that_the_kubelet_refuses_is_started_again_and_the_image_is_not_called_missing() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    refuse(&mut sim, Some(FULL));
    upgrade(&mut sim, "13.1.0");
    sim.until("said", |sim| reason(sim, "n1") == Some(Reason::PodNotRun));
    assert_eq!(sim.phase("n1"), Some(Phase::Admitted));
    assert!(message(&sim, "n1").contains(FULL), "{}", message(&sim, "n1"));
    sim.pass(200);
    let pods = sim.writes["one-shot pods"];
    assert!((4..=10).contains(&pods), "one a minute comes and goes, {pods} writes");
    assert!(sim.node("n1").allocatable["hpe.com/cxi"] > 0, "nothing was taken from the node");
    refuse(&mut sim, None);
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(history(&sim), ["Verified", "Verified"], "it was never given back");
}

#[test]
fn a_node_that_stays_full_lets_the_others_go_first_and_its_pauses_do_not_grow() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    refuse(&mut sim, Some(FULL));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n2", Phase::UpToDate);
    for _ in 0..4 {
        sim.until("given back", |sim| sim.phase("n1") == Some(Phase::Pending) && retry_after(sim) > 0);
        assert_eq!(reason(&sim, "n1"), Some(Reason::PodNotRun));
        let pause = i64::try_from(sim.settings.back_off.as_secs()).unwrap();
        assert!(retry_after(&sim) <= pause, "{} s", retry_after(&sim));
        sim.until("tried again", |sim| sim.phase("n1") == Some(Phase::Admitted));
    }
    sim.assert_runs("n1", "13.0.0");
    refuse(&mut sim, None);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_pull_that_fails_is_waited_for_and_an_image_that_is_missing_is_not() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.machine_mut("n1").pull_fails = true;
    upgrade(&mut sim, "13.1.0");
    sim.until("said", |sim| reason(sim, "n1") == Some(Reason::PodNotRun));
    assert_eq!(sim.phase("n1"), Some(Phase::Admitted), "the kubelet tries again");
    let pods = sim.writes["one-shot pods"];
    sim.pass(300);
    assert_eq!(sim.writes["one-shot pods"], pods, "a pull is not broken off");
    sim.machine_mut("n1").pull_fails = false;
    sim.settle();
    sim.assert_all_up_to_date();

    sim.machine_mut("n1").image_unknown = true;
    upgrade(&mut sim, "13.2.0");
    sim.until("given back at once", |sim| reason(sim, "n1") == Some(Reason::ImageMissing));
    assert_eq!(sim.phase("n1"), Some(Phase::Pending));
}

#[test]
fn a_pull_that_takes_too_long_is_no_missing_image() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.machine_mut("n1").pull_fails = true;
    upgrade(&mut sim, "13.1.0");
    sim.until("given back", |sim| history(sim).last().is_some_and(|last| last == "GivenBack"));
    assert_eq!(reason(&sim, "n1"), Some(Reason::PodNotRun));
    assert!(message(&sim, "n1").contains("i/o timeout"), "{}", message(&sim, "n1"));
}

#[test]
fn a_verification_that_waits_for_a_pod_is_no_failure_of_the_driver() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Loading);
    refuse(&mut sim, Some(FULL));
    let record = sim.node_mut("n1").record.as_mut().unwrap().rollout.as_mut().unwrap();
    (record.expected, record.previous) = (None, None);
    sim.until("said", |sim| reason(sim, "n1") == Some(Reason::PodNotRun));
    sim.pass(3600);
    assert_eq!(sim.phase("n1"), Some(Phase::Verifying), "{}", sim.describe());
    refuse(&mut sim, None);
    sim.settle();
    sim.assert_all_up_to_date();
}

/// A node on which a failed load left a module, whose clean-up pod the kubelet treats as it is told.
fn leftovers() -> Sim {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.machine_mut("n1").bad_versions.insert("13.1.0".into());
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::RollingBack);
    sim
}

#[rstest]
#[case::refused("OutOfcpu: Node didn't have enough resource: cpu")]
#[case::evicted("Evicted: The node was low on resource: ephemeral-storage")]
#[case::preempted("Preempting: Preempted in order to admit critical pod")]
#[case::shut_down("Terminated: Pod was terminated in response to imminent node shutdown.")]
fn a_clean_up_pod_that_did_not_run_is_no_module_that_cannot_be_taken_out(#[case] why: &str) {
    let mut sim = leftovers();
    refuse(&mut sim, Some(why));
    sim.until("said", |sim| reason(sim, "n1") == Some(Reason::PodNotRun));
    assert!(message(&sim, "n1").contains(why), "{}", message(&sim, "n1"));
    // Longer than KMM may take to unload.
    sim.pass(2 * sim.settings.unload.as_secs());
    assert_eq!(sim.phase("n1"), Some(Phase::Unloading), "{}", sim.describe());
    refuse(&mut sim, None);
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
}

#[test]
fn a_clean_up_pod_whose_image_is_not_pulled_is_no_module_that_cannot_be_taken_out() {
    let mut sim = leftovers();
    sim.machine_mut("n1").pull_fails = true;
    sim.until("said", |sim| reason(sim, "n1") == Some(Reason::PodNotRun));
    sim.pass(2 * sim.settings.unload.as_secs());
    assert_eq!(sim.phase("n1"), Some(Phase::Unloading), "{}", sim.describe());
    sim.machine_mut("n1").pull_fails = false;
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
}

#[test]
fn a_host_whose_kubelet_refuses_the_pod_is_not_told_that_its_driver_is_missing() {
    let mut wanted = spec("13.0.0");
    wanted.source.kind = SourceType::Preinstalled;
    wanted.source.image = None;
    let mut sim = Sim::new(1, wanted);
    sim.api.kmm_present = false;
    sim.kmm_runs = false;
    sim.machine_mut("n1").host_driver = Some("13.0.0".into());
    refuse(&mut sim, Some(FULL));
    sim.until("said", |sim| reason(sim, "n1") == Some(Reason::PodNotRun));
    assert!(message(&sim, "n1").contains(FULL), "{}", message(&sim, "n1"));
    sim.pass(3600);
    assert_eq!(sim.phase("n1"), Some(Phase::Verifying), "no failure of the driver: {}", sim.describe());
    refuse(&mut sim, None);
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.0.0"), "{KERNEL}");
    assert!(sim.node("n1").pods.iter().all(|pod| pod.role != Role::HostDriver), "swept up");
}
