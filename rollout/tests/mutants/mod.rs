//! What the oracle must see. The engine cannot be made to do these things (its proofs cannot be forged), so they are done to
//! the cluster or written past it, and the oracle has to name the invariant.

use cxi_api::{Phase, driver_status::InFlight, strategy::DrainPolicy};
use cxi_rollout::{Action, action::NodeChange};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rstest::rstest;

use crate::sim::{Sim, Workload, apply::version_labels, build::spec};

fn watched(nodes: usize) -> Sim {
    let mut wanted = spec("13.0.0");
    wanted.update_strategy.drain.policy = DrainPolicy::Evict;
    let mut sim = Sim::installed(nodes, wanted);
    sim.oracle.collect = true;
    sim
}

#[track_caller]
fn assert_seen(sim: &Sim, invariant: &str) {
    let seen = sim.oracle.violations.iter().any(|violation| violation.starts_with(invariant));
    assert!(seen, "the oracle did not see {invariant}: {:?}", sim.oracle.violations);
}

/// Runs until the engine removes n1's version label for itself, and hands that action to `before` first.
fn at_the_unload(sim: &mut Sim, before: impl Fn(&mut Sim)) {
    sim.edit(|spec| spec.version = "13.1.0".into());
    for _ in 0..200 {
        let seen = sim.snapshot();
        let plan = sim.plan(&seen);
        for action in &plan.actions {
            if matches!(action, Action::Unload { .. }) {
                before(sim);
                sim.apply(action, &seen).unwrap();
                return;
            }
            let _ = sim.apply(action, &seen);
        }
        sim.environment();
        sim.now += crate::sim::seconds(1);
    }
    panic!("no unload");
}

#[test]
fn a_clean_unload_is_no_violation() {
    let mut sim = watched(1);
    at_the_unload(&mut sim, |_| {});
    assert_eq!(sim.oracle.violations, Vec::<String>::new());
}

#[test]
fn i2_unloading_under_a_holder() {
    let mut sim = watched(1);
    at_the_unload(&mut sim, |sim| {
        let job = Workload::job("job");
        sim.bind(&job, "n1", "late".into());
        sim.pods.last_mut().unwrap().accepted = true;
    });
    assert_seen(&sim, "I2");
}

#[test]
fn i2_unloading_while_offered() {
    let mut sim = watched(1);
    at_the_unload(&mut sim, |sim| {
        sim.node_mut("n1").allocatable.insert("hpe.com/cxi".into(), 200);
    });
    assert_seen(&sim, "I2");
}

#[test]
fn i2_unloading_on_looks_from_before() {
    let mut sim = watched(1);
    at_the_unload(&mut sim, |sim| {
        // It was offered for a moment just now: the looks are from before that.
        sim.node_mut("n1").allocatable.insert("hpe.com/cxi".into(), 200);
        sim.oracle_state();
        sim.node_mut("n1").allocatable.insert("hpe.com/cxi".into(), 0);
    });
    assert_seen(&sim, "I2");
}

#[test]
fn i2_kmm_unloading_under_a_pod() {
    let mut sim = watched(1);
    sim.start(Workload::job("job").on("n1"));
    for (key, _) in version_labels(sim.node("n1")) {
        sim.unlabel("n1", &key);
    }
    sim.pass(20);
    assert_seen(&sim, "I2");
}

#[test]
fn i2_deleting_a_module_in_use() {
    let mut sim = watched(1);
    let (seen, revision) = (sim.snapshot(), sim.target());
    sim.apply(&Action::DeleteModule { revision }, &seen).unwrap();
    assert_seen(&sim, "I2");
}

#[test]
fn i3_opening_a_node_for_what_is_not_loaded() {
    let mut sim = watched(1);
    sim.machine_mut("n1").clear();
    let seen = sim.snapshot();
    let (node, uid) = ("n1".to_owned(), sim.node("n1").uid.clone());
    let revision = sim.target().to_string();
    let key = cxi_api::names::device_plugin_gate("cxi");
    let change = NodeChange::SetLabel { key, was: Some(revision.clone()), value: revision };
    sim.apply(&Action::PatchNode { node, uid, changes: vec![change] }, &seen).unwrap();
    assert_seen(&sim, "I3");
}

#[test]
fn i4_two_version_labels() {
    let mut sim = watched(1);
    let key = cxi_api::names::kmm_version_label(crate::sim::NAMESPACE, "cxi-0badf00d");
    sim.label("n1", &key, "0badf00d");
    sim.oracle_state();
    assert_seen(&sim, "I4");
}

#[test]
fn i4_loading_over_what_is_loaded() {
    let mut sim = watched(1);
    sim.edit(|spec| spec.version = "13.1.0".into());
    for _ in 0..200 {
        let seen = sim.snapshot();
        let plan = sim.plan(&seen);
        let now = sim.now;
        for action in &plan.actions {
            if matches!(action, Action::Load { .. }) {
                sim.machine_mut("n1").insert("13.0.0", crate::sim::KERNEL, now);
                sim.apply(action, &seen).unwrap();
                return assert_seen(&sim, "I4");
            }
            let _ = sim.apply(action, &seen);
        }
        sim.environment();
        sim.now += crate::sim::seconds(1);
    }
    panic!("no load");
}

#[test]
fn i5_unloading_twice() {
    let mut sim = watched(1);
    at_the_unload(&mut sim, |sim| {
        let seen = sim.snapshot();
        let plan = sim.plan(&seen);
        let unload = plan.actions.iter().find(|action| matches!(action, Action::Unload { .. })).unwrap();
        let (labels, versions) = (sim.node("n1").labels.clone(), sim.versions.clone());
        sim.apply(unload, &seen).unwrap();
        sim.node_mut("n1").labels = labels;
        sim.versions = versions;
    });
    assert_seen(&sim, "I5");
}

#[rstest]
#[case::open_node(false, "I6")]
#[case::forced(true, "I6")]
fn i6_evicting_where_nobody_may(#[case] force: bool, #[case] invariant: &str) {
    let mut sim = watched(1);
    sim.start(Workload::job("job").on("n1"));
    let seen = sim.snapshot();
    let (node, driver) = ("n1".to_owned(), "cxi".to_owned());
    let pod = Box::new(sim.pods[0].holder.clone());
    let action = if force {
        Action::ForceDelete { node, driver, pod, grace: crate::sim::seconds(0) }
    } else {
        Action::Evict { node, driver, pod }
    };
    sim.apply(&action, &seen).unwrap();
    assert_seen(&sim, invariant);
}

#[test]
fn i8_evicting_under_wait_for_completion() {
    let mut sim = watched(1);
    sim.edit(|spec| spec.update_strategy.drain.policy = DrainPolicy::WaitForCompletion);
    sim.start(Workload::job("job").on("n1"));
    let seen = sim.snapshot();
    let pod = Box::new(sim.pods[0].holder.clone());
    sim.apply(&Action::Evict { node: "n1".into(), driver: "cxi".into(), pod }, &seen).unwrap();
    assert_seen(&sim, "I8");
}

/// Admits `names` past the planner.
fn admit(sim: &mut Sim, names: &[&str]) {
    let seen = sim.snapshot();
    let mut status = sim.driver().status.clone();
    let rollout = status.rollout.as_mut().unwrap();
    for name in names {
        let (node, uid) = ((*name).to_owned(), sim.api.nodes[*name].uid.clone());
        rollout.in_flight.push(InFlight { node, uid, attempt: 2, admitted_at: sim.now });
    }
    let action = Action::WriteDriverStatus { driver: "cxi".into(), status: Box::new(status), urgent: true };
    sim.apply(&action, &seen).unwrap();
}

#[test]
fn i1_one_too_many() {
    let mut sim = watched(3);
    sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(1));
    sim.settle();
    admit(&mut sim, &["n1", "n2"]);
    assert_seen(&sim, "I1:");
}

#[test]
fn i1_one_beside_a_node_that_is_down_anyway() {
    let mut sim = watched(3);
    sim.node_mut("n3").ready = false;
    sim.settle();
    admit(&mut sim, &["n1"]);
    assert_seen(&sim, "I1:");
}

#[test]
fn i7_admission_to_a_halted_rollout() {
    let mut sim = watched(3);
    sim.machine_mut("n1").bad_versions.insert("13.1.0".into());
    sim.edit(|spec| spec.version = "13.1.0".into());
    sim.settle();
    assert_eq!(sim.oracle.violations, Vec::<String>::new());
    admit(&mut sim, &["n2"]);
    assert_seen(&sim, "I7");
}

#[test]
fn i10_labels_of_others() {
    let mut sim = watched(1);
    let seen = sim.snapshot();
    let (node, uid) = ("n1".to_owned(), sim.node("n1").uid.clone());
    let change = NodeChange::RemoveLabel { key: "kubernetes.io/hostname".into(), was: "n1".into() };
    sim.apply(&Action::PatchNode { node, uid, changes: vec![change] }, &seen).unwrap();
    assert_seen(&sim, "I10");
}

#[test]
fn i11_resting_without_a_word() {
    let mut sim = watched(1);
    let record = sim.node_mut("n1").record.as_mut().unwrap().rollout.as_mut().unwrap();
    record.phase = Phase::Pending;
    sim.oracle_quiet();
    assert_seen(&sim, "I11");
}

#[test]
fn i12_wrong_counters() {
    let mut sim = watched(2);
    sim.driver_mut("cxi").status.updated = 1;
    sim.oracle_quiet();
    assert_seen(&sim, "I12");
}

#[test]
fn i12_up_to_date_on_another_driver() {
    let mut sim = watched(1);
    let now = sim.now;
    sim.machine_mut("n1").insert("12.0.0", crate::sim::KERNEL, now);
    sim.oracle_quiet();
    assert_seen(&sim, "I12");
}

#[test]
fn i12_a_generation_that_was_not_observed() {
    let mut sim = watched(1);
    let seen = sim.snapshot();
    let mut status = sim.driver().status.clone();
    status.observed_generation += 1;
    let action = Action::WriteDriverStatus { driver: "cxi".into(), status: Box::new(status), urgent: true };
    sim.apply(&action, &seen).unwrap();
    assert_seen(&sim, "I12");
}

#[test]
fn time_that_runs_backwards() {
    let mut sim = watched(1);
    let seen = sim.snapshot();
    let record = sim.node("n1").record.clone().unwrap();
    let was = record.rollout.clone().map(Box::new);
    let mut now = record.rollout.unwrap();
    now.since -= jiff::SignedDuration::from_secs(5);
    sim.apply(&Action::WriteRollout { node: "n1".into(), uid: record.uid, was, now: Box::new(now) }, &seen).unwrap();
    assert_seen(&sim, "since");
}
