//! A release is asked about before the CXIDriver is edited: images, and a canary node.

use cxi_api::{
    Outcome, Phase,
    driver::SourceType,
    preflight::{After, CXIPreflightSpec, ImageResult, PreflightPhase},
};
use rstest::rstest;

use super::{evicting, upgrade};
use crate::sim::{
    KERNEL, Sim, Workload,
    build::spec,
    preflight::{question, trial, validation},
    seconds,
};

fn ends(sim: &mut Sim, name: &str) -> PreflightPhase {
    sim.until("the preflight's end", |sim| sim.answer_to(name).is_over());
    sim.preflight_phase(name).unwrap()
}

fn disturbed(sim: &Sim) -> Vec<String> {
    let moved = |name: &String| sim.node(name).rollout().unwrap().attempt > 1;
    sim.node_names().into_iter().filter(moved).collect()
}

fn why(sim: &Sim, name: &str) -> String {
    sim.answer_to(name).message.clone().unwrap_or_default()
}

#[test]
fn images_are_looked_for_and_no_node_is_touched() {
    let mut sim = evicting(3);
    let mut spec = question("13.1.0");
    spec.kernels = vec![KERNEL.into(), "6.13.0".into()];
    sim.ask_about("next", spec);
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Succeeded);
    let answer = sim.answer_to("next");
    let found: Vec<_> = answer.kernels.iter().map(|kernel| (kernel.kernel.as_str(), kernel.result)).collect();
    assert_eq!(found, [(KERNEL, ImageResult::Found), ("6.13.0", ImageResult::Found)]);
    assert!(disturbed(&sim).is_empty());
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_kernel_that_no_node_runs_yet_has_no_image() {
    let mut sim = evicting(1);
    sim.image("13.1.0", "6.13.0", false);
    let mut spec = trial("13.1.0", "n1");
    spec.kernels = vec!["6.13.0".into()];
    sim.ask_about("next", spec);
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed);
    assert!(why(&sim, "next").contains("6.13.0"), "{}", why(&sim, "next"));
    assert!(disturbed(&sim).is_empty(), "a node was moved for a release without images");
}

#[test]
fn a_kernel_that_kmm_refuses_is_named_with_what_helps() {
    let mut sim = evicting(1);
    let mut spec = question("13.1.0");
    spec.kernels = vec!["6.13".into()];
    sim.ask_about("next", spec);
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed);
    assert_eq!(sim.answer_to("next").kernels[0].result, ImageResult::NoMapping);
    assert!(why(&sim, "next").contains("three parts"), "{}", why(&sim, "next"));
}

#[test]
fn an_image_of_the_validation_pod_that_cannot_be_pulled_is_said_while_there_is_time() {
    let mut sim = evicting(2);
    sim.ask_about("next", CXIPreflightSpec { validation: Some(validation("missing")), ..trial("13.1.0", "n1") });
    sim.until("the preflight says it", |sim| why(sim, "next").contains("cannot be pulled"));
    assert_eq!(sim.preflight_phase("next"), Some(PreflightPhase::Validating));
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed);
    assert!(why(&sim, "next").contains("cannot be pulled"), "{}", why(&sim, "next"));
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_canary_node_tries_the_release_and_goes_back_with_one_drain() {
    let mut sim = evicting(3);
    sim.start(Workload::job("web").replicas(3));
    sim.settle();
    sim.ask_about("next", CXIPreflightSpec { validation: Some(validation("passes")), ..trial("13.1.0", "n2") });
    sim.until_phase("n2", Phase::Validating);
    assert_eq!(sim.machines["n2"].loaded.as_deref(), Some("13.1.0"));
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Succeeded, "{}", why(&sim, "next"));
    let node = sim.answer_to("next").node.clone().unwrap();
    let result = node.trial.unwrap();
    assert_eq!(result.validation.as_ref().unwrap().exit_code, Some(0));
    assert_eq!(result.validation.unwrap().output, "64 KiB: 23 GB/s");
    assert_eq!((result.nics, result.links), (Some(2), Some(2)));
    assert!(!result.build_ids.is_empty() && result.unavailable_seconds.unwrap() > 0);
    assert_eq!(disturbed(&sim), ["n2"]);
    assert_eq!(sim.machines["n2"].validations, 1, "the driver from before is not tested");
    assert_eq!(sim.node("n2").rollout().unwrap().attempt, 2, "one transaction there and back");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.driver().status.rollout.as_ref().unwrap().failed_nodes, 0);
}

#[rstest]
#[case::the_test_fails("fails", "exit code 3: ping: no answer")]
#[case::the_test_hangs("hangs", "did not end within 10m")]
fn a_release_that_fails_the_test_is_rolled_back_and_hurts_no_other_node(#[case] image: &str, #[case] says: &str) {
    let mut sim = evicting(3);
    sim.edit(|spec| spec.update_strategy.rollback_on_failure = false);
    sim.ask_about("next", CXIPreflightSpec { validation: Some(validation(image)), ..trial("13.1.0", "n1") });
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed);
    assert!(why(&sim, "next").contains(says), "{}", why(&sim, "next"));
    sim.settle();
    sim.assert_all_up_to_date();
    let rollout = sim.driver().status.rollout.clone().unwrap();
    assert!(rollout.halted.is_none() && rollout.failed_nodes == 0);
    assert_eq!(sim.driver().status.state.as_deref(), Some("Ready"));
    // What failed there says nothing of a rollout.
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_release_that_does_not_load_is_rolled_back() {
    let mut sim = evicting(2);
    sim.machine_mut("n1").bad_versions.insert("13.1.0".into());
    sim.ask_about("next", trial("13.1.0", "n1"));
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed);
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(sim.driver().status.rollout.as_ref().unwrap().halted.is_none());
}

#[test]
fn a_node_that_is_kept_stays_in_service_until_the_object_goes() {
    let mut sim = evicting(2);
    sim.ask_about("next", CXIPreflightSpec { after: After::Keep, ..trial("13.1.0", "n1") });
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Succeeded);
    sim.settle();
    sim.assert_runs("n1", "13.1.0");
    sim.assert_runs("n2", "13.0.0");
    assert_eq!(sim.phase("n1"), Some(Phase::UpToDate));
    // Its time does not run out while the node stays for it.
    sim.pass(8 * 24 * 3600);
    sim.assert_runs("n1", "13.1.0");
    sim.forget_question("next");
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(sim.node("n1").rollout().unwrap().trial.is_none());
}

#[test]
fn a_node_that_is_kept_is_not_moved_again_by_the_rollout_to_the_same_release() {
    let mut sim = evicting(2);
    sim.ask_about("next", CXIPreflightSpec { after: After::Keep, ..trial("13.1.0", "n1") });
    ends(&mut sim, "next");
    let attempt = sim.node("n1").rollout().unwrap().attempt;
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.node("n1").rollout().unwrap().attempt, attempt);
}

#[test]
fn it_goes_by_itself_after_its_time() {
    let mut sim = evicting(1);
    sim.ask_about("next", question("13.1.0"));
    ends(&mut sim, "next");
    sim.pass(6 * 24 * 3600);
    assert_eq!(sim.api.preflights.len(), 1);
    sim.pass(2 * 24 * 3600);
    assert!(sim.api.preflights.is_empty());
}

#[rstest]
#[case(Phase::Admitted)]
#[case(Phase::Closing)]
#[case(Phase::Evicting)]
#[case(Phase::Quiesced)]
#[case(Phase::Unloading)]
#[case(Phase::Loading)]
#[case(Phase::Verifying)]
#[case(Phase::Validating)]
fn deleted_in_any_phase_the_node_comes_back(#[case] phase: Phase) {
    for restart in [false, true] {
        let mut sim = evicting(2);
        sim.start(Workload { stubborn: true, grace: seconds(60), ..Workload::job("job") });
        sim.settle();
        sim.ask_about("next", CXIPreflightSpec { validation: Some(validation("hangs")), ..trial("13.1.0", "n1") });
        sim.until_phase("n1", phase);
        sim.forget_question("next");
        if restart {
            sim.restart_operator();
        }
        sim.settle();
        sim.assert_all_up_to_date();
        assert!(sim.driver().status.rollout.as_ref().unwrap().halted.is_none(), "{phase}");
    }
}

#[test]
fn a_reboot_in_the_middle_of_the_test_begins_it_again() {
    let mut sim = evicting(1);
    sim.ask_about("next", CXIPreflightSpec { validation: Some(validation("passes")), ..trial("13.1.0", "n1") });
    sim.until_phase("n1", Phase::Validating);
    sim.reboot("n1");
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Succeeded, "{}", why(&sim, "next"));
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn while_a_rollout_is_under_way_the_canary_node_waits() {
    let mut sim = evicting(3);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Loading);
    sim.ask_about("next", trial("14.0.0", "n3"));
    sim.until("13.1.0 everywhere else", |sim| {
        ["n1", "n2"].iter().all(|node| sim.machines[*node].loaded.as_deref() == Some("13.1.0"))
    });
    assert_ne!(sim.machines["n3"].loaded.as_deref(), Some("14.0.0"));
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Succeeded, "{}", why(&sim, "next"));
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn after_a_halt_a_release_can_be_tried() {
    let mut sim = evicting(2);
    sim.machine_mut("n1").bad_versions.insert("13.1.0".into());
    sim.machine_mut("n2").bad_versions.insert("13.1.0".into());
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(sim.driver().status.rollout.as_ref().unwrap().halted.is_some());
    sim.ask_about("next", trial("13.1.1", "n1"));
    let failed = |sim: &Sim| {
        let history = &sim.node("n1").rollout().unwrap().history;
        history.iter().filter(|entry| matches!(entry.result, Outcome::Failed(_))).count()
    };
    let before = failed(&sim);
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Succeeded, "{}", why(&sim, "next"));
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
    assert_eq!(failed(&sim), before, "the release that halted the rollout was loaded again");
}

#[test]
fn one_that_finds_no_node_holds_up_no_other() {
    let mut sim = evicting(2);
    sim.ask_about("one", trial("13.1.0", "n9"));
    sim.ask_about("two", trial("14.0.0", "n2"));
    assert_eq!(ends(&mut sim, "two"), PreflightPhase::Succeeded, "{}", why(&sim, "two"));
    // Its node is there now, while a third one has chosen its own.
    sim.ask_about("three", CXIPreflightSpec { validation: Some(validation("hangs")), ..trial("13.1.0", "n1") });
    sim.until_phase("n1", Phase::Validating);
    sim.add_node("n9");
    sim.pass(60);
    assert!(why(&sim, "one").contains("CXIPreflight three"), "{}", why(&sim, "one"));
    sim.until("the first's end", |sim| sim.answer_to("one").is_over());
    assert_eq!(sim.preflight_phase("one"), Some(PreflightPhase::Succeeded), "{}", why(&sim, "one"));
}

#[test]
fn the_release_that_is_tried_is_asked_for_meanwhile() {
    for image in ["passes", "fails"] {
        let mut sim = evicting(2);
        sim.ask_about("next", CXIPreflightSpec { validation: Some(validation(image)), ..trial("13.1.0", "n1") });
        sim.until_phase("n1", Phase::Loading);
        upgrade(&mut sim, "13.1.0");
        let end = ends(&mut sim, "next");
        assert_eq!(end == PreflightPhase::Succeeded, image == "passes", "{}", why(&sim, "next"));
        sim.settle();
        // It is the rollout's affair by now: a release that fails a test halts it.
        assert_eq!(sim.driver().status.rollout.as_ref().unwrap().halted.is_some(), image == "fails");
        let last = sim.node("n1").rollout().unwrap().history.last().unwrap().result.clone();
        assert_eq!(last, if image == "passes" { Outcome::Verified } else { Outcome::RolledBack });
    }
}

#[test]
fn a_node_that_is_kept_says_what_takes_it_back() {
    let mut sim = evicting(1);
    sim.ask_about("next", CXIPreflightSpec { after: After::Keep, ..trial("13.1.0", "n1") });
    ends(&mut sim, "next");
    sim.ask("n1", "rollback");
    sim.settle();
    let said = sim.node("n1").rollout().unwrap().blocked_by.clone().unwrap().message;
    assert!(said.contains("CXIPreflight next: delete that object"), "{said}");
}

#[test]
fn one_canary_node_at_a_time() {
    let mut sim = evicting(3);
    sim.edit(|spec| {
        spec.update_strategy.max_unavailable =
            k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String("100%".into());
    });
    sim.ask_about("one", CXIPreflightSpec { validation: Some(validation("passes")), ..trial("13.1.0", "n1") });
    sim.ask_about("two", trial("14.0.0", "n2"));
    sim.until_phase("n1", Phase::Loading);
    assert!(why(&sim, "two").contains("CXIPreflight one"), "{}", why(&sim, "two"));
    assert_eq!(ends(&mut sim, "one"), PreflightPhase::Succeeded);
    assert_eq!(ends(&mut sim, "two"), PreflightPhase::Succeeded);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[rstest]
#[case::no_driver("driver", serde_json::json!("other"), "CXIDriver other, which does not exist")]
#[case::no_node("node", serde_json::json!("n9"), "n9 is no Node")]
#[case::no_label("nodeSelector", serde_json::json!({"canary": "true"}), "no node of CXIDriver cxi has the labels")]
fn what_is_not_there_is_named_and_nothing_moves(
    #[case] field: &str,
    #[case] value: serde_json::Value,
    #[case] says: &str,
) {
    let mut sim = evicting(2);
    let mut spec = serde_json::to_value(question("13.1.0")).unwrap();
    spec[field] = value;
    sim.ask_about("next", serde_json::from_value(spec).unwrap());
    sim.settle();
    assert_eq!(sim.preflight_phase("next"), Some(PreflightPhase::Waiting));
    assert!(why(&sim, "next").contains(says), "{}", why(&sim, "next"));
    assert!(disturbed(&sim).is_empty());
}

#[test]
fn a_module_that_is_refused_is_an_answer() {
    let mut sim = evicting(1);
    sim.refuses_modules = Some("Module cxi has too long a name".into());
    sim.ask_about("next", trial("13.1.0", "n1"));
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed);
    assert!(why(&sim, "next").contains("too long a name"), "{}", why(&sim, "next"));
    assert!(disturbed(&sim).is_empty());
}

#[test]
fn what_the_driver_asks_for_already_is_refused() {
    let mut sim = evicting(1);
    sim.ask_about("next", trial("13.0.0", "n1"));
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed);
    assert!(why(&sim, "next").contains("already"), "{}", why(&sim, "next"));
}

#[test]
fn a_validation_that_every_node_has_to_pass_stops_a_rollout() {
    let mut sim = evicting(3);
    sim.edit(|spec| {
        let pod = validation("fails");
        let standing = cxi_api::strategy::StandingValidation { pod, on: cxi_api::strategy::ValidatedNodes::EveryNode };
        spec.update_strategy.validation = Some(standing);
    });
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    let rollout = sim.driver().status.rollout.clone().unwrap();
    assert!(rollout.halted.is_some_and(|halt| halt.message.contains("exit code 3")));
    assert_eq!(disturbed(&sim).len(), 1);
    for node in sim.node_names() {
        sim.assert_runs(&node, "13.0.0");
    }
}

#[test]
fn a_driver_of_the_hosts_is_tried_beside_no_other() {
    let mut wanted = spec("13.0.0");
    wanted.source.kind = SourceType::Preinstalled;
    let mut sim = Sim::bare(1);
    sim.machine_mut("n1").host_driver = Some("12.9.0".into());
    sim.reboot("n1");
    sim.add_driver("cxi", wanted);
    sim.settle();
    let mut asked = trial("13.1.0", "n1");
    asked.source = Some(spec("13.1.0").source);
    sim.ask_about("next", asked);
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed);
    assert!(why(&sim, "next").contains("preinstalled"), "{}", why(&sim, "next"));
}

#[test]
fn a_node_that_fails_after_it_passed_is_not_tried_again_and_again() {
    let mut sim = evicting(2);
    sim.machine_mut("n1").plugin_broken_with = Some("13.1.0".into());
    sim.ask_about("next", CXIPreflightSpec { after: After::Keep, ..trial("13.1.0", "n1") });
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed, "{}", why(&sim, "next"));
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.node("n1").rollout().unwrap().attempt, 2);
    assert!(sim.driver().status.rollout.as_ref().unwrap().halted.is_none());
}

#[test]
fn a_node_that_a_preflight_left_out_of_service_waits_and_halts_nothing() {
    let mut sim = evicting(2);
    sim.ask_about("next", trial("13.1.0", "n1"));
    sim.until_phase("n1", Phase::Loading);
    sim.machine_mut("n1").bad_versions.extend(["13.1.0".to_owned(), "13.0.0".to_owned()]);
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed);
    let attempt = sim.node("n1").rollout().unwrap().attempt;
    sim.pass(7200);
    assert_eq!(sim.phase("n1"), Some(Phase::Quarantined));
    assert_eq!(sim.node("n1").rollout().unwrap().attempt, attempt, "it was tried again without being asked");
    let rollout = sim.driver().status.rollout.clone().unwrap();
    assert!(rollout.halted.is_none() && rollout.failed_nodes == 0, "{rollout:?}");
    sim.machine_mut("n1").bad_versions.clear();
    sim.ask("n1", "retry");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_record_that_is_lost_in_the_middle_ends_the_preflight() {
    for phase in [Phase::Loading, Phase::Verifying, Phase::Validating] {
        let mut sim = evicting(2);
        sim.ask_about("next", CXIPreflightSpec { validation: Some(validation("passes")), ..trial("13.1.0", "n1") });
        sim.until_phase("n1", phase);
        sim.node_mut("n1").record = None;
        ends(&mut sim, "next");
        sim.settle();
        sim.assert_all_up_to_date();
    }
}

#[test]
fn a_label_changed_by_hand_brings_no_release_into_service_untried() {
    let mut sim = evicting(2);
    sim.edit(|spec| spec.paused = true);
    sim.ask_about("next", CXIPreflightSpec { validation: Some(validation("fails")), ..trial("13.1.0", "n1") });
    sim.until("a Module", |sim| sim.api.revisions.iter().any(|known| known.version == "13.1.0"));
    sim.remove_version_labels_by_hand("n1");
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Failed, "{}", why(&sim, "next"));
    sim.edit(|spec| spec.paused = false);
    sim.settle();
    assert!(sim.driver().status.rollout.as_ref().unwrap().halted.is_none());
    sim.assert_runs("n2", "13.0.0");
}

#[test]
fn a_node_that_was_kept_and_is_the_drivers_again_goes_with_the_others() {
    let mut sim = evicting(2);
    sim.ask_about("next", CXIPreflightSpec { after: After::Keep, ..trial("13.1.0", "n1") });
    ends(&mut sim, "next");
    assert_eq!(sim.driver().status.state.as_deref(), Some("Ready"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    upgrade(&mut sim, "13.0.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_kernel_that_comes_later_is_no_part_of_the_question() {
    let mut sim = evicting(2);
    sim.ask_about("next", trial("13.1.0", "n1"));
    sim.until_phase("n1", Phase::Loading);
    sim.image("13.1.0", "6.14.0", false);
    sim.add_node("n3");
    sim.node_mut("n3").kernel = "6.14.0".into();
    assert_eq!(ends(&mut sim, "next"), PreflightPhase::Succeeded, "{}", why(&sim, "next"));
}

#[test]
fn a_node_that_is_kept_is_no_canary_node_of_another() {
    let mut sim = evicting(2);
    sim.ask_about("one", CXIPreflightSpec { after: After::Keep, ..trial("13.1.0", "n1") });
    ends(&mut sim, "one");
    sim.ask_about("two", trial("14.0.0", "n1"));
    sim.settle();
    assert!(why(&sim, "two").contains("CXIPreflight one"), "{}", why(&sim, "two"));
    sim.forget_question("one");
    assert_eq!(ends(&mut sim, "two"), PreflightPhase::Succeeded, "{}", why(&sim, "two"));
}

#[test]
fn a_driver_of_the_hosts_that_passed_the_test_is_remembered() {
    let mut sim = evicting(1);
    sim.machine_mut("n1").host_driver = Some("12.9.0".into());
    sim.edit(|spec| {
        let pod = validation("passes");
        let standing = cxi_api::strategy::StandingValidation { pod, on: cxi_api::strategy::ValidatedNodes::EveryNode };
        spec.update_strategy.validation = Some(standing);
        spec.source.kind = SourceType::Preinstalled;
    });
    sim.settle();
    let record = sim.node("n1").rollout().unwrap();
    assert_eq!(sim.machines["n1"].validations, 1);
    assert_eq!((record.revision.as_ref(), &record.host_revision), (record.host_revision.as_ref(), &Some(sim.target())));
}

#[test]
fn a_node_that_runs_the_release_already_goes_with_the_others() {
    let mut sim = evicting(2);
    sim.edit(|spec| spec.paused = true);
    upgrade(&mut sim, "13.1.0");
    sim.ask_about("before", trial("13.0.0", "n1"));
    assert_eq!(ends(&mut sim, "before"), PreflightPhase::Failed);
    assert!(why(&sim, "before").contains("runs the release"), "{}", why(&sim, "before"));
    sim.edit(|spec| spec.paused = false);
    sim.settle();
    sim.assert_all_up_to_date();
}
