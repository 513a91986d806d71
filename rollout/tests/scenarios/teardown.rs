//! Nodes and drivers that go: in order, or orphaned; and two CXIDrivers that want the same nodes.

use cxi_api::{
    Phase,
    names::{DRIVER_LABEL, device_plugin_gate},
};
use rstest::rstest;

use super::{condition, evicting, evictions, upgrade};
use crate::sim::{SELECTOR, Sim, Workload, apply::version_labels, build::spec};

fn assert_bare(sim: &Sim, name: &str) {
    let node = sim.node(name);
    assert!(version_labels(node).is_empty(), "{}", sim.describe());
    assert!(!node.labels.contains_key(&device_plugin_gate("cxi")));
    assert_eq!(node.labels.get(DRIVER_LABEL), None);
    assert!(node.record.is_none() && node.taints.is_empty());
    assert!(sim.machines[name].modules.is_empty());
}

#[test]
fn a_node_that_is_not_selected_any_more_is_taken_down_in_order() {
    let mut sim = evicting(3);
    sim.start(Workload::job("job").on("n1"));
    sim.workloads[0].node = None;
    sim.deselect("n1");
    sim.settle();
    assert_bare(&sim, "n1");
    sim.assert_all_up_to_date();
    assert_eq!((sim.driver().status.total, evictions(&sim)), (2, 1));
    sim.select("n1");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_label_that_comes_and_goes_starts_nothing() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    for _ in 0..5 {
        sim.deselect("n1");
        sim.pass(10);
        sim.select("n1");
        sim.pass(10);
    }
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.writes.get("version label"), None);
}

#[test]
fn selected_again_in_the_middle_of_the_teardown() {
    for phase in [Phase::Admitted, Phase::Closing, Phase::Quiesced, Phase::Unloading] {
        let mut sim = evicting(2);
        sim.deselect("n1");
        sim.until_phase("n1", phase);
        sim.select("n1");
        sim.settle();
        sim.assert_all_up_to_date();
    }
}

#[test]
fn deselected_in_the_middle_of_an_upgrade() {
    for phase in [Phase::Admitted, Phase::Closing, Phase::Quiesced, Phase::Unloading, Phase::Loading, Phase::Verifying]
    {
        let mut sim = evicting(2);
        upgrade(&mut sim, "13.1.0");
        sim.until_phase("n1", phase);
        sim.deselect("n1");
        sim.settle();
        assert_bare(&sim, "n1");
        sim.assert_all_up_to_date();
    }
}

#[rstest]
#[case(1)]
#[case(4)]
fn deletion_takes_every_node_down_in_order(#[case] nodes: usize) {
    let mut sim = evicting(nodes);
    sim.start(Workload::job("job").on("n1"));
    sim.delete_driver("cxi");
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
    assert!(sim.api.revisions.is_empty() && sim.daemonsets.is_empty());
    for name in sim.node_names() {
        assert_bare(&sim, &name);
    }
}

#[test]
fn deletion_in_the_middle_of_an_upgrade() {
    for phase in [
        Phase::Admitted,
        Phase::Closing,
        Phase::Quiesced,
        Phase::Unloading,
        Phase::Loading,
        Phase::Verifying,
        Phase::Returning,
    ] {
        let mut sim = evicting(3);
        upgrade(&mut sim, "13.1.0");
        sim.until_phase("n1", phase);
        sim.delete_driver("cxi");
        sim.settle();
        assert!(sim.api.drivers.is_empty(), "{phase}: {}", sim.describe());
        for name in sim.node_names() {
            assert_bare(&sim, &name);
        }
    }
}

#[test]
fn deletion_before_anything_happened() {
    let mut sim = Sim::new(2, spec("13.0.0"));
    sim.pass(3);
    sim.delete_driver("cxi");
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
    for name in sim.node_names() {
        assert_bare(&sim, &name);
    }
}

#[test]
fn deletion_of_a_halted_driver() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").bad_versions.insert("13.1.0".into());
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(condition(&sim, "Halted"));
    sim.delete_driver("cxi");
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
}

#[test]
fn deletion_while_a_node_cannot_be_verified() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.image("13.0.0", "6.12.2", false);
    sim.reboot_into("n1", "6.12.2");
    sim.settle();
    sim.delete_driver("cxi");
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
}

#[test]
fn orphaned_drivers_stay_loaded_under_running_jobs() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.start(Workload::job("job").on("n1"));
    sim.driver_mut("cxi").orphan = true;
    sim.delete_driver("cxi");
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
    for node in ["n1", "n2"] {
        assert_eq!(sim.machines[node].loaded.as_deref(), Some("13.0.0"));
        assert_eq!(version_labels(sim.node(node)).len(), 1);
    }
    assert_eq!((sim.api.revisions.len(), sim.pods.len(), evictions(&sim)), (1, 1, 0));
    // A driver of the same name takes them over without a reload.
    sim.writes.clear();
    sim.add_driver("cxi", spec("13.0.0"));
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.writes.get("version label"), None);
}

#[test]
fn orphaned_nodes_without_a_record_are_let_go_too() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.node_mut("n1").record = None;
    sim.driver_mut("cxi").orphan = true;
    sim.delete_driver("cxi");
    sim.node_mut("n2").pods.clear();
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
    assert!(["n1", "n2", "n3"].iter().all(|node| sim.machines[*node].loaded.is_some()));
}

/// Its Module must not go before its driver was taken out in order.
#[test]
fn a_node_whose_record_is_deleted_during_the_teardown_is_taken_down_in_order_all_the_same() {
    let mut sim = evicting(3);
    sim.start(Workload::job("job").on("n3"));
    sim.delete_driver("cxi");
    sim.until_phase("n1", Phase::Admitted);
    sim.node_mut("n3").record = None;
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
    assert_bare(&sim, "n3");
}

#[test]
fn orphaned_in_the_middle_of_an_upgrade() {
    for phase in [Phase::Admitted, Phase::Quiesced, Phase::Unloading, Phase::Loading, Phase::Verifying] {
        let mut sim = evicting(2);
        upgrade(&mut sim, "13.1.0");
        sim.until_phase("n1", phase);
        sim.driver_mut("cxi").orphan = true;
        sim.delete_driver("cxi");
        sim.settle();
        assert!(sim.api.drivers.is_empty(), "{phase}: {}", sim.describe());
    }
}

#[test]
fn the_older_of_two_drivers_wins_and_the_newer_touches_nothing() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.add_driver("newer", spec("14.0.0"));
    sim.settle();
    sim.assert_all_up_to_date();
    let newer = sim.driver_named("newer").unwrap();
    assert!(newer.status.conditions.iter().any(|c| c.type_ == "Conflict" && c.status == "True"));
    assert_eq!(newer.status.state.as_deref(), Some("Conflict"));
    assert!(sim.api.revisions.iter().all(|revision| revision.driver == "cxi"));
    assert!(!condition(&sim, "Conflict"));
    // The older goes: the newer takes over, after the old driver was taken out in order.
    sim.delete_driver("cxi");
    sim.settle();
    assert!(sim.driver_named("cxi").is_none());
    for node in ["n1", "n2"] {
        assert_eq!(sim.owner(node), Some("newer"));
        assert_eq!(sim.machines[node].loaded.as_deref(), Some("14.0.0"), "{}", sim.describe());
        assert_eq!(sim.phase(node), Some(Phase::UpToDate));
    }
}

#[test]
fn two_drivers_on_disjoint_nodes_do_not_meet() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.add_node("m1");
    sim.unlabel("m1", SELECTOR);
    sim.label("m1", "pool", "b");
    let mut other = spec("14.0.0");
    other.node_selector = [("pool".to_owned(), "b".to_owned())].into();
    sim.add_driver("other", other);
    sim.settle();
    assert_eq!(sim.machines["m1"].loaded.as_deref(), Some("14.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_runs("n1", "13.1.0");
    assert_eq!(sim.machines["m1"].loaded.as_deref(), Some("14.0.0"));
    let other = sim.driver_named("other").unwrap();
    assert!(other.status.conditions.iter().all(|c| c.type_ != "Conflict" || c.status == "False"));
}

/// A node in flight comes back under the name that was asked for last, whatever the device plugin offered until then.
#[test]
fn a_driver_that_is_orphaned_while_its_resource_is_renamed_goes() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.edit(|spec| spec.version = "13.1.0".into());
    sim.until_phase("n1", Phase::Returning);
    sim.edit(|spec| spec.device_plugin.resource_name = "beta.hpe.com/cxi".into());
    sim.driver_mut("cxi").orphan = true;
    sim.delete_driver("cxi");
    sim.until("the driver goes", |sim| sim.driver_named("cxi").is_none());
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.1.0"));
}
