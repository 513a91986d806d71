//! A spec that says what cannot be, and that the API server lets in all the same: nothing is changed until it is put right.

use cxi_api::{CXIDriverSpec, Phase, preflight::PreflightPhase};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rstest::rstest;

use super::{condition, evicting, says, upgrade};
use crate::sim::{
    Sim,
    build::spec,
    preflight::{question, validation},
};

fn blocked_by(sim: &Sim) -> String {
    let conditions = &sim.driver().status.conditions;
    conditions.iter().find(|condition| condition.type_ == "Blocked").map(|it| it.reason.clone()).unwrap_or_default()
}

/// Everything that the operator writes on nodes.
fn nodes(sim: &Sim) -> Vec<(String, cxi_rollout::world::Node)> {
    let known = sim.api.nodes.iter().map(|(name, node)| {
        let node = cxi_rollout::world::Node { looks: Vec::new(), ..node.clone() };
        (name.clone(), node)
    });
    known.collect()
}

#[rstest]
#[case::budget("InvalidMaxUnavailable", "updateStrategy.maxUnavailable is \"many\"")]
#[case::failures("InvalidMaxFailed", "updateStrategy.maxFailed is 0: write 1 or more")]
#[case::history("InvalidRevisionHistoryLimit", "revisionHistoryLimit is -1: write 0 or more")]
fn nodes_stay_as_they_are_until_the_field_is_put_right(
    #[case] reason: &str,
    #[case] words: &str,
    #[values(Phase::Pending, Phase::Closing, Phase::Loading)] phase: Phase,
) {
    let mut sim = evicting(3);
    let right = sim.driver().spec.clone();
    upgrade(&mut sim, "13.1.0");
    if phase != Phase::Pending {
        sim.until_phase("n1", phase);
    }
    sim.edit(|spec| match reason {
        "InvalidMaxUnavailable" => spec.update_strategy.max_unavailable = IntOrString::String("many".into()),
        "InvalidMaxFailed" => spec.update_strategy.max_failed = 0,
        _ => spec.revision_history_limit = -1,
    });
    // KMM ends what it has begun.
    sim.pass(60);
    let before = nodes(&sim);
    // Within the time limits of what is under way: they go on.
    sim.pass(if phase == Phase::Loading { 300 } else { 20_000 });
    assert_eq!(nodes(&sim), before, "{}", sim.describe());
    assert!(condition(&sim, "Blocked"));
    assert_eq!(blocked_by(&sim), reason);
    assert!(says(&sim, "Blocked").contains(words), "{}", says(&sim, "Blocked"));
    assert_eq!(sim.driver().status.state.as_deref(), Some("Blocked"));

    sim.edit(|spec| *spec = CXIDriverSpec { version: "13.1.0".into(), ..(*right).clone() });
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(!condition(&sim, "Blocked"));
}

#[test]
fn it_is_said_before_anything_is_known_of_the_nodes() {
    let mut wanted = spec("13.0.0");
    wanted.update_strategy.max_unavailable = IntOrString::Int(-1);
    let mut sim = Sim::new(2, wanted);
    sim.pass(1_000);
    assert_eq!(blocked_by(&sim), "InvalidMaxUnavailable");
    assert!(sim.api.revisions.is_empty() && sim.api.nodes.values().all(|node| node.record.is_none()));
    sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(1));
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_driver_that_is_deleted_is_taken_down_once_the_field_is_put_right() {
    let mut sim = evicting(2);
    sim.edit(|spec| spec.update_strategy.max_failed = 0);
    sim.driver_mut("cxi").deleting = true;
    sim.pass(1_000);
    assert_eq!(blocked_by(&sim), "InvalidMaxFailed");
    assert_eq!(sim.api.nodes.values().filter(|node| node.rollout().is_some()).count(), 2);
    sim.edit(|spec| spec.update_strategy.max_failed = 1);
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
}

#[test]
fn a_preflight_waits_for_the_field_of_its_driver_and_fails_for_one_of_its_own() {
    let mut sim = evicting(2);
    sim.edit(|spec| spec.update_strategy.max_failed = 0);
    sim.ask_about("next", question("13.1.0"));
    sim.pass(1_000);
    assert_eq!(sim.preflight_phase("next"), Some(PreflightPhase::Waiting));
    let why = sim.answer_to("next").message.clone().unwrap_or_default();
    assert!(why.contains("updateStrategy.maxFailed is 0"), "{why}");
    sim.edit(|spec| spec.update_strategy.max_failed = 1);
    let mut wrong = question("13.1.0");
    wrong.validation = Some(validation("registry/test:1"));
    wrong.validation.as_mut().unwrap().nics = Some(0);
    sim.ask_about("wrong", wrong);
    sim.until("both ends", |sim| ["next", "wrong"].into_iter().all(|name| sim.answer_to(name).is_over()));
    assert_eq!(sim.preflight_phase("next"), Some(PreflightPhase::Succeeded));
    assert_eq!(sim.preflight_phase("wrong"), Some(PreflightPhase::Failed));
    let why = sim.answer_to("wrong").message.clone().unwrap_or_default();
    assert!(why.contains("nics of the validation is 0"), "{why}");
}
