//! Administrators who edit what is ours.

use cxi_api::{
    Advertise, GoDuration, NodeRollout, Phase,
    names::{DRIVER_LABEL, DRIVER_VERSION_LABEL, KMM_VERSION_PREFIX, UPGRADE_PENDING_TAINT, device_plugin_gate},
    strategy::DrainPolicy,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rstest::rstest;

use super::upgrade;
use crate::sim::{Sim, Workload, build::spec, seconds};

const PHASES: [Phase; 9] = [
    Phase::Admitted,
    Phase::Waiting,
    Phase::Closing,
    Phase::Evicting,
    Phase::Quiesced,
    Phase::Unloading,
    Phase::Loading,
    Phase::Verifying,
    Phase::Returning,
];

fn in_phase(phase: Phase) -> Sim {
    let mut wanted = spec("13.0.0");
    wanted.update_strategy.drain.policy = DrainPolicy::WaitThenEvict;
    wanted.update_strategy.drain.wait_timeout = GoDuration::minutes(10);
    let mut sim = Sim::installed(2, wanted);
    for node in ["n1", "n2"] {
        sim.start(Workload { stubborn: true, grace: seconds(60), ..Workload::job(node).on(node) });
    }
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", phase);
    sim
}

/// Edits the record of n1.
fn forge(sim: &mut Sim, edit: impl FnOnce(&mut NodeRollout)) {
    edit(sim.node_mut("n1").record.as_mut().unwrap().rollout.as_mut().unwrap());
}

#[test]
fn modules_that_somebody_took_out_are_loaded_again() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").clear();
    sim.until("closed", |sim| sim.phase("n1") == Some(Phase::Verifying));
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(!sim.machines["n1"].modules.is_empty(), "{}", sim.describe());
    assert_eq!(sim.node("n2").rollout().map(|record| record.attempt), Some(1), "no other node was moved");
}

#[test]
fn a_deleted_record_of_a_resting_node_is_made_again_without_moving_it() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.start(Workload::job("job").on("n1"));
    sim.node_mut("n1").record = None;
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.writes.get("version label"), None);
    assert_eq!((sim.pods.len(), sim.writes.get("evictions")), (1, None));
}

#[test]
fn a_record_edited_to_a_revision_that_does_not_exist_is_made_right_without_moving_the_node() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.start(Workload::job("job").on("n1"));
    let record = sim.node_mut("n1").record.as_mut().unwrap();
    record.rollout.as_mut().unwrap().revision = Some("0badc0de".parse().unwrap());
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.writes.get("version label"), None);
    assert_eq!((sim.pods.len(), sim.writes.get("evictions")), (1, None));
}

#[test]
fn a_record_deleted_in_any_phase() {
    for phase in PHASES {
        let mut sim = in_phase(phase);
        sim.node_mut("n1").record = None;
        sim.settle();
        sim.assert_all_up_to_date();
    }
}

#[test]
fn a_status_edited_to_any_phase_in_any_phase() {
    for phase in PHASES {
        for forged in Phase::ALL {
            let mut sim = in_phase(phase);
            let record = sim.node_mut("n1").record.as_mut().unwrap();
            if let Some(rollout) = &mut record.rollout {
                rollout.phase = forged;
            }
            sim.settle();
            sim.assert_all_up_to_date();
        }
    }
}

#[test]
fn a_status_edited_while_the_node_rests() {
    for forged in Phase::ALL {
        let mut sim = Sim::installed(2, spec("13.0.0"));
        sim.start(Workload::job("job").on("n1"));
        if let Some(rollout) = &mut sim.node_mut("n1").record.as_mut().unwrap().rollout {
            rollout.phase = forged;
        }
        sim.settle();
        sim.assert_all_up_to_date();
        assert_eq!(sim.writes.get("version label"), None, "{forged}: {:?}", sim.writes);
        assert_eq!(sim.writes.get("evictions"), None, "{forged}");
    }
}

#[test]
fn an_empty_status() {
    for phase in PHASES {
        let mut sim = in_phase(phase);
        sim.node_mut("n1").record.as_mut().unwrap().rollout = None;
        sim.settle();
        sim.assert_all_up_to_date();
    }
}

#[test]
fn a_forged_revision_is_not_believed() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Admitted);
    let target = sim.target();
    let forge = |rollout: &mut NodeRollout| {
        rollout.revision = Some(target.clone());
        rollout.phase = Phase::UpToDate;
    };
    forge(sim.node_mut("n1").record.as_mut().unwrap().rollout.as_mut().unwrap());
    sim.oracle.collect = true;
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn the_ledger_wiped() {
    for phase in PHASES {
        let mut sim = in_phase(phase);
        sim.driver_mut("cxi").status = cxi_api::CXIDriverStatus::default();
        sim.settle();
        sim.assert_all_up_to_date();
    }
}

#[test]
fn the_version_label_removed_means_repair() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.remove_version_labels_by_hand("n1");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn the_version_label_removed_in_any_phase() {
    for phase in PHASES {
        let mut sim = in_phase(phase);
        sim.remove_version_labels_by_hand("n1");
        // KMM tries to unload at once and again and again; the kernel does not let it while the job runs.
        sim.until("the end", |sim| sim.driver().status.updated == 2);
        sim.settle();
        sim.assert_all_up_to_date();
    }
}

#[test]
fn a_second_version_label_is_taken_away_in_order() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.version_label_by_hand("n1", "13.0.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(crate::sim::apply::version_labels(sim.node("n1")).len(), 1);
}

#[rstest]
#[case("13.0.0")]
#[case("13.1.0")]
fn another_version_label_in_any_phase(#[case] version: &str) {
    for phase in PHASES {
        let mut sim = in_phase(phase);
        sim.version_label_by_hand("n1", version);
        sim.settle();
        sim.assert_all_up_to_date();
        assert_eq!(crate::sim::apply::version_labels(sim.node("n1")).len(), 1);
    }
}

#[rstest]
#[case(device_plugin_gate("cxi"), None)]
#[case(device_plugin_gate("cxi"), Some("nonsense"))]
#[case(DRIVER_VERSION_LABEL.to_owned(), None)]
#[case(DRIVER_VERSION_LABEL.to_owned(), Some("1.0"))]
fn other_labels_of_ours_are_put_back(#[case] key: String, #[case] value: Option<&str>) {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    let before = sim.node("n1").labels.clone();
    match value {
        Some(value) => sim.label("n1", &key, value),
        None => sim.unlabel("n1", &key),
    }
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.node("n1").labels, before);
}

#[test]
fn the_owner_label_removed_does_not_lose_the_node() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.oracle.by_hand("n1");
    sim.unlabel("n1", DRIVER_LABEL);
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.owner("n1"), Some("cxi"));
}

#[test]
fn our_taint_added_by_hand_goes_again() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    let taint = cxi_rollout::world::Taint {
        key: UPGRADE_PENDING_TAINT.into(),
        value: String::new(),
        effect: "PreferNoSchedule".into(),
    };
    sim.node_mut("n1").taints.push(taint);
    sim.settle();
    assert!(sim.node("n1").taints.is_empty());
}

#[test]
fn a_module_that_somebody_took_out_is_missed_although_the_others_are_there() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").modules.remove("cxi_user");
    sim.until("closed", |sim| sim.phase("n1") == Some(Phase::Verifying));
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(sim.machines["n1"].modules.contains_key("cxi_user"), "{}", sim.describe());
}

/// No node counts further than this.
#[test]
fn a_record_edited_to_the_last_attempt_that_can_be_counted() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    forge(&mut sim, |record| record.attempt = i32::MAX);
    sim.oracle.collect = true;
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_record_without_a_boot_is_verified_again() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until("n1 is done", |sim| sim.driver().status.updated == 1);
    forge(&mut sim, |record| record.boot_id = None);
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.driver().status.ready, 2, "{}", sim.describe());
}

/// Its links stay down, so it does not come to the end of the verification. Another release helps.
#[test]
fn a_closed_node_takes_another_release_whatever_its_record_says_it_offers() {
    for offers in [Advertise::All, Advertise::InUse, Advertise::None] {
        let mut sim = Sim::installed(2, spec("13.0.0"));
        sim.machine_mut("n1").dark_versions.insert("13.0.0".into());
        sim.reboot("n1");
        sim.pass(600);
        forge(&mut sim, |record| record.advertise = offers);
        sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(2));
        upgrade(&mut sim, "13.1.0");
        sim.settle();
        sim.assert_all_up_to_date();
    }
}

/// While no operator runs, KMM sees a node without a label, and begins to unload. The label is back before the operator is.
fn without_label_for_a_moment(sim: &mut Sim, label: impl Fn(&str) -> bool) {
    nodes_without_label_for_a_moment(sim, &["n1"], label);
}

fn nodes_without_label_for_a_moment(sim: &mut Sim, nodes: &[&str], label: impl Fn(&str) -> bool) {
    let mut taken = Vec::new();
    for node in nodes {
        sim.oracle.by_hand(node);
        let labels = sim.node(node).labels.clone().into_iter().filter(|(key, _)| label(key));
        taken.extend(labels.map(|(key, value)| (*node, key, value)));
    }
    for (node, key, _) in &taken {
        sim.unlabel(node, key);
    }
    for _ in 0..5 {
        sim.environment();
        sim.now += seconds(1);
    }
    for (node, key, value) in &taken {
        sim.label(node, key, value);
    }
    for node in nodes {
        assert!(sim.node(node).workers.iter().any(|worker| !worker.loads), "{}", sim.describe());
    }
}

/// Its unloader waits for the device, and takes the driver from under the next pod that does not have it open at that moment.
#[rstest]
#[case::owner(|key: &str| key == DRIVER_LABEL)]
#[case::version(|key: &str| key.starts_with(KMM_VERSION_PREFIX))]
fn a_label_that_was_gone_while_no_operator_ran(#[case] label: fn(&str) -> bool) {
    for job in [false, true] {
        let mut sim = Sim::installed(2, spec("13.0.0"));
        if job {
            sim.start(Workload { idle: true, ..Workload::job("job").on("n1") }.for_seconds(600));
            sim.pass(10);
        }
        without_label_for_a_moment(&mut sim, label);
        sim.pass(3600);
        assert_eq!(sim.node("n1").workers, [], "{}", sim.describe());
        sim.assert_all_up_to_date();
        assert_eq!(sim.writes.get("evictions"), None, "the job ended by itself");
        assert_eq!(sim.node("n2").rollout().map(|record| record.attempt), Some(1), "nobody else was touched");
    }
}

/// All nodes at once: their jobs go on while they wait for their turn.
#[test]
fn a_label_that_was_gone_everywhere_is_put_right_within_the_budget() {
    let mut wanted = spec("13.0.0");
    wanted.update_strategy.drain.policy = DrainPolicy::Evict;
    wanted.update_strategy.max_unavailable = IntOrString::Int(1);
    let mut sim = Sim::installed(3, wanted);
    for node in ["n1", "n2", "n3"] {
        sim.start(Workload { idle: true, ..Workload::job(node).on(node) });
    }
    sim.pass(10);
    nodes_without_label_for_a_moment(&mut sim, &["n1", "n2", "n3"], |key| key == DRIVER_LABEL);
    for _ in 0..2000 {
        let flying = sim.driver().status.rollout.as_ref().map_or(0, |rollout| rollout.in_flight.len());
        assert!(flying <= 1, "{}", sim.describe());
        sim.round();
    }
    sim.settle();
    sim.assert_all_up_to_date();
}

/// Its record is lost, too, so the node is closed and verified, and its retry handler holds the device that KMM waits for.
#[test]
fn a_label_that_was_gone_on_a_node_without_a_record() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    without_label_for_a_moment(&mut sim, |key| key == DRIVER_LABEL || key == device_plugin_gate("cxi"));
    sim.node_mut("n1").record = None;
    sim.pass(7200);
    assert_eq!(sim.node("n1").workers, [], "{}", sim.describe());
    sim.assert_all_up_to_date();
}

/// A revision that is written into the record of a node before its driver is exchanged is not the one that is loaded: the gate must not
/// carry it.
#[test]
fn a_forged_revision_opens_no_gate_before_the_driver_is_exchanged() {
    for phase in [Phase::Admitted, Phase::Waiting] {
        let mut sim = in_phase(phase);
        let target = sim.target();
        forge(&mut sim, |record| record.revision = Some(target));
        sim.settle();
        sim.assert_all_up_to_date();
    }
}

/// A node whose owner label is set to another living CXIDriver, whether that selects it or not: its driver is there, and pods may use it.
#[test]
fn a_node_labelled_for_another_driver_stays_with_its_own() {
    for selects in [false, true] {
        let mut sim = Sim::installed(2, spec("13.0.0"));
        sim.start(Workload::job("job").on("n1"));
        let mut other = spec("13.2.0");
        if !selects {
            other.node_selector = [("other".to_owned(), "true".to_owned())].into();
        }
        sim.add_driver("other", other);
        sim.pass(10);
        sim.oracle.by_hand("n1");
        sim.label("n1", DRIVER_LABEL, "other");
        sim.pass(60);
        assert_eq!(sim.owner("n1"), Some("cxi"), "{}", sim.describe());
        sim.pass(200_000);
        assert_eq!(sim.owner("n1"), Some("cxi"), "{}", sim.describe());
        assert_eq!(sim.node("n1").rollout().map(|record| record.attempt), Some(1), "the node was moved");
        let told: Vec<_> = sim.events.iter().filter(|event| event.reason == "OwnerChanged").collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].message.contains("from cxi to other"), "{told:?}");
    }
}

/// In the middle of an exchange, too: no other CXIDriver goes on with it.
#[rstest]
fn a_node_labelled_for_another_driver_in_an_upgrade(
    #[values(Phase::Admitted, Phase::Waiting, Phase::Evicting, Phase::Unloading, Phase::Verifying)] phase: Phase,
) {
    let mut sim = in_phase(phase);
    let mut other = spec("13.2.0");
    other.node_selector = [("other".to_owned(), "true".to_owned())].into();
    sim.add_driver("other", other);
    sim.oracle.by_hand("n1");
    sim.label("n1", DRIVER_LABEL, "other");
    sim.pass(200_000);
    assert_eq!(sim.owner("n1"), Some("cxi"), "{}", sim.describe());
}
