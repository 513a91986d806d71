//! Driver images that are not there, cannot be pulled, or say nothing of themselves.

use cxi_api::{Phase, Reason, driver::SourceType, node::Expected};
use cxi_rollout::world::ImageState;

use super::{condition, message, reason, upgrade};
use crate::sim::{KERNEL, Sim, build::spec};

#[test]
fn an_image_missing_for_one_kernel_stops_everything_beforehand() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.reboot_into("n3", "6.12.2");
    sim.settle();
    sim.assert_all_up_to_date();
    sim.image("13.1.0", "6.12.2", false);
    sim.writes.clear();
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    for node in ["n1", "n2", "n3"] {
        assert_eq!(reason(&sim, node), Some(Reason::ImageMissing));
        assert!(message(&sim, node).contains("6.12.2"), "{}", message(&sim, node));
        sim.assert_runs(node, "13.0.0");
    }
    assert!(!condition(&sim, "PreflightPassed") && condition(&sim, "Blocked"));
    assert_eq!(sim.writes.get("version label"), None);
    sim.image("13.1.0", "6.12.2", true);
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(condition(&sim, "PreflightPassed"));
}

#[test]
fn without_preflight_only_the_node_that_needs_the_image_waits() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.reboot_into("n3", "6.12.2");
    sim.settle();
    sim.image("13.1.0", "6.12.2", false);
    sim.edit(|spec| {
        spec.preflight.required = false;
        spec.version = "13.1.0".into();
    });
    sim.settle();
    sim.assert_up_to_date("n1");
    sim.assert_up_to_date("n2");
    assert_eq!(reason(&sim, "n3"), Some(Reason::ImageMissing));
    sim.assert_runs("n3", "13.0.0");
}

#[test]
fn a_registry_that_a_node_cannot_reach_costs_nothing() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").pull_fails = true;
    upgrade(&mut sim, "13.1.0");
    sim.until("named", |sim| reason(sim, "n1") == Some(Reason::PodNotRun) && sim.phase("n1") == Some(Phase::Pending));
    sim.until_phase("n2", Phase::UpToDate);
    assert!(sim.node("n1").allocatable["hpe.com/cxi"] > 0);
    assert!(message(&sim, "n1").contains("ImagePullBackOff"), "{}", message(&sim, "n1"));
    sim.assert_runs("n1", "13.0.0");
    sim.machine_mut("n1").pull_fails = false;
    sim.until_phase("n1", Phase::UpToDate);
}

#[test]
fn a_foreign_image_without_a_manifest_is_verified_by_what_changed() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.foreign.insert("13.1.0".into());
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_foreign_image_that_changes_nothing_is_a_failure() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.foreign.insert("13.1.0".into());
    sim.machine_mut("n1").impostors.insert("13.1.0".into(), "13.0.0".into());
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(reason(&sim, "n1"), Some(Reason::Failed));
    sim.assert_runs("n1", "13.0.0");
}

fn blocked_by(sim: &Sim) -> String {
    sim.driver().status.conditions.iter().find(|c| c.type_ == "Blocked").unwrap().reason.clone()
}

#[test]
fn dkms_without_a_place_for_images_changes_nothing() {
    let mut wanted = spec("13.0.0");
    wanted.source.kind = SourceType::Dkms;
    wanted.source.image = None;
    let mut sim = Sim::new(2, wanted);
    sim.settle();
    assert!(condition(&sim, "Blocked"));
    assert_eq!(blocked_by(&sim), "ImageRepositoryRequired");
    assert!(sim.api.revisions.is_empty() && sim.api.nodes.values().all(|node| node.record.is_none()));
    sim.edit(|spec| spec.source.image = Some("registry/cxi".into()));
    sim.settle();
    assert_eq!(blocked_by(&sim), "DriverSourceRequired");
    assert!(sim.api.revisions.is_empty());
    sim.edit(|spec| spec.source.repository = Some("https://example.com/driver.tar.gz".into()));
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(sim.api.revisions.iter().all(|revision| revision.containerfile), "KMM has nothing to build by");
}

/// KMM builds for kernels whose names tell whose they are, or where the image to build in is named.
#[test]
fn a_kernel_that_is_not_known_for_sure_is_not_said_to_have_a_failed_build() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.edit(|spec| {
        spec.source.kind = SourceType::Dkms;
        spec.source.repository = Some("https://example.com/driver.tar.gz".into());
    });
    sim.building.insert("13.1.0".into(), ImageState::Missing);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    let said = message(&sim, "n1");
    assert!(
        said.contains(&format!("not known for sure whose kernel {KERNEL} is: name the image to build in")),
        "{said}"
    );
    sim.assert_runs("n1", "13.0.0");
}

#[test]
fn while_kmm_builds_no_node_is_touched_and_the_condition_says_so() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.edit(|spec| {
        spec.source.kind = SourceType::Dkms;
        spec.source.repository = Some("https://example.com/driver.tar.gz".into());
        spec.source.builder_image = Some("registry/builder:1".into());
    });
    sim.building.insert("13.1.0".into(), ImageState::Building);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    for (state, says) in [
        (ImageState::Building, "KMM is building image"),
        (ImageState::Signing, "KMM is signing image"),
        (ImageState::Missing, "the build of image"),
    ] {
        sim.building.insert("13.1.0".into(), state);
        sim.pass(5);
        sim.settle();
        let passed = sim.driver().status.conditions.iter().find(|c| c.type_ == "PreflightPassed").unwrap().clone();
        assert!(passed.status == "False" && passed.message.contains(says), "{passed:?}");
        assert_eq!(reason(&sim, "n1"), Some(Reason::ImageMissing));
        for node in ["n1", "n2"] {
            sim.assert_runs(node, "13.0.0");
            assert_eq!(sim.node(node).rollout().unwrap().phase, Phase::Pending);
        }
    }
    sim.building.clear();
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn editing_the_source_away_leaves_running_nodes_alone() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.edit(|spec| {
        spec.source.kind = SourceType::Dkms;
        spec.source.image = None;
    });
    sim.settle();
    for node in ["n1", "n2"] {
        sim.assert_runs(node, "13.0.0");
    }
    assert!(condition(&sim, "Blocked"));
}

#[test]
fn kmm_missing_then_arriving() {
    let mut sim = Sim::new(2, spec("13.0.0"));
    sim.api.kmm_present = false;
    sim.kmm_runs = false;
    sim.settle();
    assert!(condition(&sim, "Blocked"));
    assert!(sim.api.revisions.is_empty());
    sim.api.kmm_present = true;
    sim.kmm_runs = true;
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn kmm_away_for_a_while_in_the_middle() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Unloading);
    sim.kmm_runs = false;
    sim.pass(120);
    sim.kmm_runs = true;
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn the_old_image_gone_is_said() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Unloading);
    sim.image("13.0.0", KERNEL, false);
    sim.until("named", |sim| reason(sim, "n1") == Some(Reason::OldImageMissing));
    sim.image("13.0.0", KERNEL, true);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn the_manifest_of_the_driver_that_still_runs_is_kept_and_a_node_goes_back_without_asking_for_it_again() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.machine_mut("n1").bad_versions.insert("13.1.0".into());
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    let version = |expected: &Option<Expected>| expected.as_ref().and_then(|expected| expected.driver_version.clone());
    let record = sim.node("n1").rollout().unwrap();
    assert_eq!(version(&record.expected).as_deref(), Some("13.1.0"));
    assert_eq!(version(&record.previous).as_deref(), Some("13.0.0"));
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
    let record = sim.node("n1").rollout().unwrap();
    assert_eq!(version(&record.expected).as_deref(), Some("13.0.0"));
}
