//! Hosts that bring their driver: nothing is loaded or unloaded, everything else works.

use cxi_api::{CXIDriverSpec, Phase, Reason, driver::SourceType, names::Role, transaction::Check};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{message, reason, upgrade};
use crate::sim::{KERNEL, Sim, build::spec};

fn preinstalled(version: &str) -> CXIDriverSpec {
    let mut wanted = spec(version);
    wanted.source.kind = SourceType::Preinstalled;
    wanted.source.image = None;
    wanted
}

fn hosts(nodes: usize) -> Sim {
    let mut sim = Sim::new(nodes, preinstalled("13.0.0"));
    sim.api.kmm_present = false;
    sim.kmm_runs = false;
    let now = sim.now;
    for name in sim.node_names() {
        let machine = sim.machine_mut(&name);
        machine.host_driver = Some("13.0.0".into());
        machine.insert("13.0.0", KERNEL, now);
    }
    sim
}

#[test]
fn the_hosts_driver_is_verified_and_offered_without_kmm() {
    let mut sim = hosts(3);
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(sim.api.revisions.is_empty());
}

#[test]
fn a_host_that_has_not_loaded_its_driver_is_asked_to() {
    let mut sim = hosts(2);
    sim.machine_mut("n1").clear();
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.0.0"));
    assert!(sim.node("n1").pods.iter().all(|pod| pod.role != Role::HostDriver), "swept up");
    assert_eq!(sim.writes.get("one-shot pods"), Some(&2), "one comes and goes, on n1");
}

#[test]
fn a_host_without_its_driver_is_named() {
    let mut sim = hosts(2);
    sim.machine_mut("n1").clear();
    sim.machine_mut("n1").host_driver = None;
    sim.until("what modprobe said", |sim| message(sim, "n1").contains("Module cxi-user not found"));
    sim.settle();
    sim.assert_up_to_date("n2");
    assert_ne!(sim.phase("n1"), Some(Phase::UpToDate));
    assert!(matches!(reason(&sim, "n1"), Some(Reason::HostDriverMissing | Reason::Failed)), "{}", sim.describe());
    sim.machine_mut("n1").host_driver = Some("13.0.0".into());
    sim.ask("n1", "retry");
    sim.resume();
    sim.settle();
    sim.assert_up_to_date("n1");
}

#[test]
fn another_version_in_the_spec_moves_no_node() {
    let mut sim = hosts(2);
    sim.settle();
    sim.start(crate::sim::Workload::job("job").on("n1"));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(sim.driver().status.updated, 2, "{}", sim.describe());
    assert_eq!(sim.pods.len(), 1);
    assert_eq!(sim.writes.get("evictions"), None);
}

#[test]
fn a_reboot_is_verified_again() {
    let mut sim = hosts(2);
    sim.settle();
    sim.reboot("n1");
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn deletion_leaves_the_hosts_driver_alone() {
    let mut sim = hosts(2);
    sim.settle();
    sim.delete_driver("cxi");
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
    for node in ["n1", "n2"] {
        assert_eq!(sim.machines[node].loaded.as_deref(), Some("13.0.0"));
        assert_eq!(sim.owner(node), None);
    }
}

#[test]
fn another_retry_handler_comes_to_drained_nodes_and_another_version_beside_it_moves_none_again() {
    let mut sim = hosts(2);
    sim.edit(|spec| spec.update_strategy.drain.policy = cxi_api::strategy::DrainPolicy::Evict);
    sim.settle();
    sim.start(crate::sim::Workload::job("job").on("n1"));
    sim.edit(|spec| {
        spec.version = "13.1.0".into();
        spec.retry_handler.image = Some("registry/cxi-rh:13.1".into());
    });
    sim.settle();
    assert_eq!(sim.driver().status.updated, 2, "{}", sim.describe());
    assert_eq!(sim.writes.get("evictions"), Some(&1));
    let value = cxi_api::names::retry_handler_value("registry/cxi-rh:13.1");
    assert!(["n1", "n2"].iter().all(|node| sim.machines[*node].serves.as_ref() == Some(&value)), "{}", sim.describe());
}

#[test]
fn a_host_that_has_loaded_a_part_of_its_driver_is_asked_for_the_rest() {
    let mut sim = hosts(1);
    sim.machine_mut("n1").modules.remove("cxi_user");
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(sim.machines["n1"].modules.contains_key("cxi_user"));
}

/// The hosts' driver is to be replaced by one that KMM loads.
fn to_kmm(sim: &mut Sim) {
    sim.api.kmm_present = true;
    sim.kmm_runs = true;
    sim.edit(|wanted| {
        *wanted = cxi_api::CXIDriverSpec { update_strategy: wanted.update_strategy.clone(), ..spec("13.1.0") };
    });
}

#[test]
fn kmm_replaces_the_hosts_driver_and_a_node_goes_back_when_asked() {
    let mut sim = hosts(2);
    sim.settle();
    to_kmm(&mut sim);
    sim.settle();
    sim.assert_all_up_to_date();
    // What another node lacks is no matter for one that goes back.
    sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(2));
    sim.image("13.1.0", "6.12.2", false);
    sim.reboot_into("n2", "6.12.2");
    sim.settle();
    sim.ask("n1", "rollback");
    sim.settle();
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.0.0"), "{}", sim.describe());
    assert!(sim.node("n1").allocatable.values().any(|offered| *offered > 0), "{}", sim.describe());
    sim.image("13.1.0", "6.12.2", true);
    sim.unlabel("n1", cxi_api::names::UPGRADE_LABEL);
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_driver_of_kmm_is_not_left_for_the_hosts_before_the_image_is_there_that_unloads_it() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.machine_mut("n1").host_driver = Some("12.9.0".into());
    sim.image("13.0.0", KERNEL, false);
    sim.edit(|wanted| wanted.source.kind = SourceType::Preinstalled);
    sim.until("why not", |sim| message(sim, "n1").contains("13.0.0 for 6.12.1 cannot be pulled"));
    assert!(
        sim.node("n1").allocatable.values().any(|offered| *offered > 0),
        "nothing was taken away: {}",
        sim.describe()
    );
    sim.image("13.0.0", KERNEL, true);
    sim.settle();
    assert_eq!(sim.phase("n1"), Some(Phase::UpToDate), "{}", sim.describe());
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("12.9.0"));
}

#[test]
fn a_driver_of_kmm_that_fails_gives_way_to_the_hosts_again() {
    let mut sim = hosts(3);
    sim.settle();
    for name in sim.node_names() {
        sim.machine_mut(&name).bad_versions.insert("13.1.0".into());
    }
    to_kmm(&mut sim);
    sim.settle();
    let halted = sim.driver().status.rollout.as_ref().and_then(|rollout| rollout.halted.clone());
    assert!(halted.is_some(), "{}", sim.describe());
    let failed: Vec<String> =
        sim.node_names().into_iter().filter(|name| sim.node(name).rollout().unwrap().failure.is_some()).collect();
    assert_eq!(failed.len(), 1, "the canary only: {}", sim.describe());
    for name in sim.node_names() {
        assert_eq!(sim.machines[&name].loaded.as_deref(), Some("13.0.0"), "{name}: {}", sim.describe());
        assert!(sim.node(&name).allocatable.values().any(|offered| *offered > 0), "{name}: {}", sim.describe());
    }
}

#[test]
fn a_node_between_drivers_follows_when_the_spec_turns_from_the_hosts_to_kmms() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    for name in sim.node_names() {
        sim.machine_mut(&name).host_driver = None;
    }
    sim.edit(|wanted| wanted.source.kind = SourceType::Preinstalled);
    sim.until_phase("n1", Phase::Loading);
    sim.edit(|wanted| {
        wanted.source.kind = SourceType::Prebuilt;
        wanted.version = "13.1.0".into();
    });
    sim.settle();
    sim.assert_all_up_to_date();
}

/// A record that was edited by hand, on a node that never had a driver: nothing says that the host brings one.
#[test]
fn a_revision_that_does_not_exist_is_not_the_hosts_driver() {
    let mut wanted = spec("13.0.0");
    wanted.paused = true;
    let mut sim = Sim::new(1, wanted);
    sim.machine_mut("n1").host_driver = Some("12.9.0".into());
    sim.settle();
    let record = sim.node_mut("n1").record.as_mut().unwrap().rollout.as_mut().unwrap();
    record.phase = Phase::Verifying;
    record.check = Some(Check { revision: "0badc0de".parse().unwrap(), snapshot: None });
    sim.pass(3600);
    assert_eq!(sim.machines["n1"].loaded, None, "{}", sim.describe());
    assert_eq!((sim.phase("n1"), sim.driver().status.ready), (Some(Phase::Pending), 0), "{}", sim.describe());
    sim.edit(|spec| spec.paused = false);
    sim.machine_mut("n1").host_driver = None;
    sim.settle();
    sim.assert_all_up_to_date();
}
