//! What the status says: words and numbers that an administrator goes by.

use cxi_api::{Phase, Reason, names::UPGRADE_LABEL};
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::Condition, util::intstr::IntOrString};

use super::{condition, evicting, reason, says, upgrade};
use crate::sim::{KERNEL, Sim, build::spec, jobs::Workload};

fn state(sim: &Sim) -> &str {
    sim.driver().status.state.as_deref().unwrap_or_default()
}

fn progressing(sim: &Sim) -> Condition {
    sim.driver().status.conditions.iter().find(|condition| condition.type_ == "Progressing").unwrap().clone()
}

/// No node moves any more, and the status says which nodes are behind, by whose wish, and what ends it.
#[test]
fn a_node_that_was_rolled_back_by_request_is_no_progress() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.ask("n1", "rollback");
    sim.until("on its way", |sim| state(sim) == "Updating");
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
    let said = progressing(&sim);
    assert_eq!((said.status.as_str(), said.reason.as_str(), state(&sim)), ("False", "RolledBack", "RolledBack"));
    assert!(said.message.contains("=rollback: n1. They stay there until you remove the label"), "{}", said.message);
    assert_eq!((sim.driver().status.updated, sim.driver().status.total), (1, 2));
    sim.unlabel("n1", UPGRADE_LABEL);
    sim.settle();
    sim.assert_all_up_to_date();
    let said = progressing(&sim);
    assert_eq!((said.reason.as_str(), state(&sim)), ("RolloutComplete", "Ready"));
    assert!(!said.message.contains("rollback"), "{}", said.message);
}

/// `updated` is what still runs, and `total` what still belongs to the CXIDriver, while one node after the other is taken down.
#[test]
fn counts_stay_true_while_a_driver_is_deleted() {
    let mut sim = evicting(4);
    sim.edit(|spec| spec.paused = true);
    sim.delete_driver("cxi");
    sim.settle();
    let status = &sim.driver().status;
    assert_eq!((status.total, status.updated, status.updating, status.ready), (4, 4, 0, 4));
    assert_eq!((progressing(&sim).status.as_str(), state(&sim)), ("False", "Deleting"));
    sim.edit(|spec| spec.paused = false);
    let mut seen = Vec::new();
    while !sim.api.drivers.is_empty() {
        let status = &sim.driver().status;
        let counts = (status.total, status.updated, status.updating);
        if seen.last() != Some(&counts) {
            seen.push(counts);
        }
        sim.round();
    }
    for counts in [(4, 3, 1), (3, 2, 1), (2, 1, 1), (1, 0, 1)] {
        assert!(seen.contains(&counts), "{counts:?} is not in {seen:?}");
    }
    assert!(seen.is_sorted_by(|before, after| before.0 >= after.0 && before.1 >= after.1), "{seen:?}");
}

#[test]
fn a_frozen_rollout_is_called_frozen() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(0));
    sim.settle();
    assert_eq!(state(&sim), "Ready", "there is nothing to do");
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(state(&sim), "Frozen");
    assert!(says(&sim, "Blocked").contains("updateStrategy.maxUnavailable is 0"), "{}", says(&sim, "Blocked"));
    sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::String("50%".into()));
    sim.settle();
    assert_eq!(state(&sim), "Ready");
}

/// In the pause between tries the record says what kept the node at the last try, and not what was in the way meanwhile.
#[test]
fn a_node_that_is_not_skipped_any_more_is_not_called_skipped() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.edit(|spec| {
        spec.update_strategy.drain.policy = cxi_api::strategy::DrainPolicy::WaitForCompletion;
        spec.update_strategy.drain.wait_timeout = "10m".parse().unwrap();
    });
    sim.start(Workload::job("job").on("n1"));
    sim.settle();
    upgrade(&mut sim, "13.1.0");
    sim.until("given back", |sim| sim.node("n1").rollout().is_some_and(|record| record.pause.is_some()));
    sim.until_phase("n1", Phase::Pending);
    sim.ask("n1", "skip");
    sim.until("skipped", |sim| reason(sim, "n1") == Some(Reason::Skip) && says(sim, "Blocked").contains("skip"));
    sim.unlabel("n1", UPGRADE_LABEL);
    for _ in 0..3 {
        sim.round();
    }
    assert_eq!(reason(&sim, "n1"), Some(Reason::PodsRunning), "{}", sim.describe());
    assert!(!says(&sim, "Blocked").contains("skip"), "{}", says(&sim, "Blocked"));
    assert!(sim.node("n1").rollout().is_some_and(|record| record.pause.is_some()), "it is still in the pause");
}

#[test]
fn blocked_is_over_as_soon_as_the_label_skip_is_gone() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.ask("n1", "skip");
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(condition(&sim, "Blocked") && state(&sim) == "Blocked");
    sim.unlabel("n1", UPGRADE_LABEL);
    for _ in 0..3 {
        sim.round();
    }
    assert!(!condition(&sim, "Blocked") && state(&sim) == "Updating", "{}", says(&sim, "Blocked"));
    sim.settle();
    sim.assert_all_up_to_date();
}

/// The release stands beside the revision from the write on that brings the revision, and goes with it.
#[test]
fn a_record_has_the_release_of_its_revision() {
    let version = |sim: &Sim| sim.node("n1").rollout().and_then(|record| record.version.clone());
    let mut sim = Sim::installed(1, spec("13.0.0"));
    assert_eq!(version(&sim).as_deref(), Some("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    let mut seen = Vec::new();
    while sim.phase("n1") != Some(Phase::UpToDate) || version(&sim).as_deref() == Some("13.0.0") {
        sim.round();
        let record = sim.node("n1").rollout().unwrap();
        assert_eq!(record.revision.is_some(), record.version.is_some(), "{record:?}");
        if seen.last() != Some(&record.version) {
            seen.push(record.version.clone());
        }
    }
    assert_eq!(seen, [Some("13.0.0".into()), None, Some("13.1.0".into())]);
}

/// An image that KMM has not looked for yet is not missing.
#[test]
fn an_image_is_unverified_before_it_is_missing() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.image("13.1.0", KERNEL, false);
    upgrade(&mut sim, "13.1.0");
    let mut said = Vec::new();
    for _ in 0..600 {
        sim.round();
        let now =
            (reason(&sim, "n1"), sim.driver().status.conditions.iter().find(|c| c.type_ == "PreflightPassed").cloned());
        let now = (now.0, now.1.map(|passed| passed.reason).unwrap_or_default());
        if now.0.is_some() && said.last() != Some(&now) {
            said.push(now);
        }
    }
    let expected = [
        (Some(Reason::ImageUnverified), "ImagesUnverified".to_owned()),
        (Some(Reason::ImageMissing), "ImagesMissing".to_owned()),
    ];
    assert_eq!(said, expected);
}
