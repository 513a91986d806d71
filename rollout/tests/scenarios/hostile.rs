//! Labels that vanish at the worst moment, nodes that do not come back, and specs that change meanwhile.

use cxi_api::{
    Phase, Reason,
    strategy::{DrainPolicy, OnTimeout},
};

use super::{condition, reason, upgrade};
use crate::sim::{Budget, Sim, Workload, build::spec};

const COLLAPSED: &str = "SelectorCollapsed";

/// A release that failed is withdrawn while the labels are gone: nodes that are held must not move on to it.
#[test]
fn held_nodes_do_not_move_to_a_release_that_was_withdrawn() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    sim.machine_mut("n1").bad_versions.insert("13.1.0".into());
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert!(condition(&sim, "Halted"));
    for node in ["n1", "n2", "n3", "n4"] {
        sim.assert_runs(node, "13.0.0");
        sim.deselect(node);
    }
    sim.settle();
    assert!(condition(&sim, COLLAPSED));
    upgrade(&mut sim, "13.0.0");
    sim.pass(7200);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.assert_runs(node, "13.0.0");
    }
}

/// Nodes that are not selected any more are held where they are.
#[test]
fn held_nodes_are_not_moved() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    sim.edit(|spec| spec.paused = true);
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    for node in ["n1", "n2", "n3", "n4"] {
        sim.deselect(node);
    }
    sim.settle();
    sim.edit(|spec| spec.paused = false);
    sim.pass(7200);
    assert!(condition(&sim, COLLAPSED));
    for node in ["n1", "n2", "n3", "n4"] {
        sim.assert_runs(node, "13.0.0");
    }
}

/// A node whose driver is out at the moment at which the labels vanish.
#[test]
fn a_node_in_loading_is_held_too() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Loading);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.deselect(node);
    }
    sim.pass(3600);
    assert!(condition(&sim, COLLAPSED));
    assert!(sim.machines["n1"].loaded.is_some(), "{}", sim.describe());
}

/// The plugin does not come back after a reboot; a new release helps.
#[test]
fn a_node_that_is_not_back_after_a_reboot_takes_another_release() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").plugin_broken_with = Some("13.0.0".into());
    sim.reboot("n1");
    sim.pass(3600);
    eprintln!("{:?} {:?}", sim.phase("n1"), reason(&sim, "n1"));
    sim.edit(|spec| spec.update_strategy.max_unavailable = serde_json::from_value(serde_json::json!(2)).unwrap());
    upgrade(&mut sim, "13.1.0");
    sim.pass(90_000);
    sim.assert_up_to_date("n1");
}

/// The rollback is given back, because a budget does not let the job go; another release comes.
#[test]
fn a_rollback_that_was_given_back_takes_another_release() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").plugin_lame_with = Some("13.1.0".into());
    sim.edit(|spec| spec.update_strategy.drain.policy = DrainPolicy::Evict);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Returning);
    sim.until("it offers", |sim| sim.node("n1").allocatable["hpe.com/cxi"] > 0);
    sim.start(Workload::job("job").on("n1"));
    sim.budgets.push(Budget::over("job", 1));
    sim.pass(90_000);
    eprintln!("after the rollback: {:?} {:?}\n{}", sim.phase("n1"), reason(&sim, "n1"), sim.describe());
    sim.budgets.clear();
    sim.workloads.clear();
    sim.pods.clear();
    sim.project_holders();
    sim.edit(|spec| spec.update_strategy.max_unavailable = serde_json::from_value(serde_json::json!(2)).unwrap());
    upgrade(&mut sim, "13.2.0");
    sim.pass(90_000);
    sim.assert_up_to_date("n1");
}

/// A rollback while something else is wanted by now, which cannot be had.
#[test]
fn a_node_goes_back_although_something_else_is_wanted_that_is_not_there() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.machine_mut("n1").plugin_broken_with = Some("13.1.0".into());
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Returning);
    sim.image("13.2.0", crate::sim::KERNEL, false);
    upgrade(&mut sim, "13.2.0");
    sim.pass(90_000);
    let back = sim.machines["n1"].loaded.clone();
    eprintln!("{back:?} {:?} {:?}", sim.phase("n1"), reason(&sim, "n1"));
    sim.image("13.2.0", crate::sim::KERNEL, true);
    sim.pass(90_000);
    eprintln!("later {:?} {:?} {:?}", sim.machines["n1"].loaded, sim.phase("n1"), reason(&sim, "n1"));
    assert_eq!(back.as_deref(), Some("13.0.0"));
    sim.assert_up_to_date("n1");
}

/// The device plugin offers less than it should because its pod is replaced; `onTimeout: Fail`.
#[test]
fn a_rollback_that_times_out_does_not_blame_the_old_driver() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    let old = sim.target();
    sim.machine_mut("n1").plugin_lame_with = Some("13.1.0".into());
    sim.edit(|spec| {
        spec.update_strategy.drain.policy = DrainPolicy::Evict;
        spec.update_strategy.drain.on_timeout = OnTimeout::Fail;
    });
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Returning);
    sim.until("it offers", |sim| sim.node("n1").allocatable["hpe.com/cxi"] > 0);
    sim.start(Workload::job("job").on("n1"));
    sim.budgets.push(Budget::over("job", 1));
    sim.until("failed", |sim| sim.node("n1").rollout().is_some_and(|record| record.failure.is_some()));
    sim.pass(4000);
    let failure = sim.node("n1").rollout().unwrap().failure.clone();
    assert_ne!(failure.as_ref().map(|failure| failure.revision.clone()), Some(old), "{failure:?}");
}

/// A node reboots while its image is being pulled; its new job is known to the kubelet, and not yet to the operator.
#[test]
fn a_reboot_in_admitted_takes_no_retry_handler_from_a_job() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.machine_mut("n1").pull_fails = true;
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Admitted);
    sim.reboot("n1");
    // The operator is between two leaders: the node comes back, KMM loads, the device plugin and the retry handler start.
    for _ in 0..60 {
        sim.environment();
        sim.now += std::time::Duration::from_secs(1);
    }
    assert!(sim.node("n1").allocatable["hpe.com/cxi"] > 0);
    sim.operate();
    assert!(sim.node("n1").rollout().unwrap().revision.is_none());
    // What the operator plans on is from before the job came.
    let seen = sim.snapshot();
    sim.start(Workload::job("new").on("n1"));
    for _ in 0..4 {
        sim.jobs();
        sim.kubelet("n1");
    }
    assert_eq!(sim.accepted_on("n1").count(), 1, "{}", sim.describe());
    for action in &sim.plan(&seen).actions {
        let _ = sim.apply(action, &seen);
    }
}

/// Labels vanish during a rollout, from nodes with jobs.
#[test]
fn held_nodes_keep_their_jobs() {
    let mut sim = super::evicting(4);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.start(Workload::job(&format!("job-{node}")).on(node));
    }
    sim.pass(10);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Admitted);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.deselect(node);
    }
    sim.pass(7200);
    assert_eq!(super::evictions(&sim), 0, "{}", sim.describe());
    assert!(condition(&sim, COLLAPSED));
    for node in ["n1", "n2", "n3", "n4"] {
        sim.assert_runs(node, "13.0.0");
    }
}

/// A reboot of all nodes at once (a power cut): agents do not report for a moment, and labels come back late.
#[test]
fn a_power_cut_and_labels_that_are_late() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    for node in ["n1", "n2", "n3", "n4"] {
        sim.reboot(node);
        sim.deselect(node);
    }
    sim.pass(3600);
    let loaded: Vec<_> = sim.machines.values().map(|machine| machine.loaded.clone()).collect();
    assert!(loaded.iter().all(Option::is_some), "{loaded:?} {}", condition(&sim, COLLAPSED));
    assert!(condition(&sim, COLLAPSED));
}

/// The same where the driver comes up late: a worker of KMM's waits for its image.
#[test]
fn quarantined_nodes_do_not_leave() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    for node in ["n1", "n2", "n3", "n4"] {
        sim.node_mut(node).ready = false;
        sim.deselect(node);
    }
    sim.pass(600);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.node_mut(node).ready = true;
    }
    sim.pass(3600);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.assert_runs(node, "13.0.0");
    }
}

/// A pod that the kubelet never decides on keeps a node in Evicting silently.
#[test]
fn evicting_says_what_it_waits_for() {
    let mut sim = super::evicting(1);
    sim.start(Workload::job("job").on("n1"));
    sim.pass(5);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Evicting);
    sim.settle();
    assert_ne!(reason(&sim, "n1"), Some(Reason::PodsRunning));
}

/// A spec that leads nowhere does not keep the driver from being taken down.
#[test]
fn a_driver_whose_spec_lost_its_image_can_be_deleted() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.edit(|spec| spec.source.image = None);
    sim.pass(10);
    sim.delete_driver("cxi");
    sim.pass(90_000);
    assert!(sim.api.drivers.is_empty(), "{:?} {}", reason(&sim, "n1"), super::message(&sim, "n1"));
}

/// The failure of a release that is not wanted any more does not halt the rollout of the one that mends it.
#[test]
fn the_failure_of_the_last_release_does_not_halt_the_next() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").bad_versions.insert("13.1.0".into());
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Loading);
    // KMM still looks for its image, or builds it.
    sim.image("13.2.0", crate::sim::KERNEL, false);
    upgrade(&mut sim, "13.2.0");
    sim.pass(1200);
    sim.image("13.2.0", crate::sim::KERNEL, true);
    sim.pass(7200);
    assert!(!condition(&sim, "Halted"), "{}", super::says(&sim, "Halted"));
    sim.assert_all_up_to_date();
}

/// Another CXIDriver begins to select the nodes.
#[test]
fn nodes_that_are_handed_over() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    let mut other = spec("13.1.0");
    other.node_selector = [("other".to_owned(), "true".to_owned())].into();
    sim.add_driver("other", other);
    sim.pass(60);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.label(node, "other", "true");
        sim.deselect(node);
    }
    sim.pass(7200);
    eprintln!(
        "{:?} {}",
        condition(&sim, COLLAPSED),
        sim.driver_named("other").unwrap().status.state.clone().unwrap_or_default()
    );
    sim.driver_mut("cxi").max_unselected = Some(4);
    sim.settle();
    for node in ["n1", "n2", "n3", "n4"] {
        assert_eq!(sim.owner(node), Some("other"), "{}", sim.describe());
        assert_eq!(sim.phase(node), Some(Phase::UpToDate));
    }
}

/// A label that comes and goes on many nodes.
#[test]
fn labels_that_flap_cost_writes_of_one_status() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    sim.pass(600);
    let before: usize = sim.writes.values().sum();
    for _ in 0..60 {
        for node in ["n1", "n2", "n3", "n4"] {
            sim.deselect(node);
        }
        sim.pass(20);
        for node in ["n1", "n2", "n3", "n4"] {
            sim.select(node);
        }
        sim.pass(20);
    }
    let after: usize = sim.writes.values().sum();
    assert!(after - before <= 60 * 4, "{} writes", after - before);
    sim.settle();
    sim.assert_all_up_to_date();
}

/// A pod that was bound before the node was closed, and that its kubelet never decides on, while the other pods are evicted.
#[test]
fn evicting_ends_by_its_own_limit_and_says_why() {
    let mut sim = super::evicting(1);
    sim.start(Workload::job("job").on("n1"));
    sim.pass(5);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    let mut holder = sim.pods[0].holder.clone();
    holder.name = "undecided".into();
    holder.uid = "undecided".into();
    holder.started = false;
    holder.health = cxi_rollout::world::PodHealth::Pending;
    let began = sim.now;
    let mut seen = Vec::new();
    for _ in 0..4000 {
        let (_, _) = sim.operate();
        sim.environment();
        sim.now += std::time::Duration::from_secs(1);
        let node = sim.node_mut("n1");
        node.holders.retain(|known| known.uid != "undecided");
        node.holders.push(holder.clone());
        let at = (sim.now.as_second() - began.as_second(), sim.phase("n1"), super::message(&sim, "n1"));
        if seen.last().is_none_or(|(_, phase, words): &(i64, Option<Phase>, String)| (phase, words) != (&at.1, &at.2)) {
            seen.push(at);
        }
    }
    let said = |words: &str| seen.iter().find(|(_, _, message)| message.contains(words)).map(|(at, ..)| *at);
    assert!(said("undecided").is_some_and(|at| at < 60), "{seen:#?}");
    let given_back = seen.iter().find(|(_, phase, _)| *phase == Some(Phase::Returning)).map(|(at, ..)| *at);
    assert!(given_back.is_some_and(|at| at < 2000), "{seen:#?}");
}

/// A node whose device plugin is not back after a reboot does not keep its CXIDriver from being deleted.
#[test]
fn a_node_that_is_not_back_can_be_taken_down() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.machine_mut("n1").plugin_broken_with = Some("13.0.0".into());
    sim.reboot("n1");
    sim.pass(3600);
    sim.delete_driver("cxi");
    sim.pass(90_000);
    assert!(sim.api.drivers.is_empty(), "{:?} {:?}", sim.phase("n1"), reason(&sim, "n1"));
}

/// A job is bound while the last look is being taken; its kubelet has accepted it before the plugin was gone.
#[test]
fn a_pod_that_no_cache_shows_has_the_node_given_back_once() {
    let mut sim = super::evicting(2);
    sim.start(Workload::job("job").on("n1"));
    sim.pass(5);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Evicting);
    let began = sim.now;
    let mut phases = Vec::new();
    for _ in 0..9000 {
        // The operator's cache of pods has lost this pod.
        let held = std::mem::take(&mut sim.node_mut("n1").holders);
        let seen = sim.snapshot();
        sim.node_mut("n1").holders = held;
        for action in &sim.plan(&seen).actions {
            let _ = sim.apply(action, &seen);
        }
        sim.environment();
        sim.now += std::time::Duration::from_secs(1);
        if phases.last().is_none_or(|(_, last)| *last != sim.phase("n1")) {
            phases.push((sim.now.as_second() - began.as_second(), sim.phase("n1")));
        }
    }
    let given_back = phases.iter().find(|(_, phase)| *phase == Some(Phase::Returning)).map(|(at, _)| *at);
    assert!(given_back.is_some_and(|at| at < 2000) && phases.len() == 3, "{phases:?}");
}

/// The clock of the operator's node is put forward by a quarter of an hour while KMM works.
#[test]
fn a_clock_that_is_put_forward_quarantines_no_node() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Unloading);
    sim.skew += 900;
    sim.settle();
    assert!(!condition(&sim, "Halted"), "{}", super::says(&sim, "Halted"));
    sim.assert_all_up_to_date();
}

/// Another retry handler waits for the labels too: nodes that are held are not drained for it.
#[test]
fn held_nodes_are_not_drained_for_a_retry_handler() {
    let mut sim = super::evicting(4);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.start(Workload::job(&format!("job-{node}")).on(node));
    }
    sim.pass(10);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.deselect(node);
    }
    sim.pass(300);
    assert!(condition(&sim, COLLAPSED));
    sim.edit(|spec| spec.retry_handler.image = Some("registry/other".into()));
    sim.pass(7200);
    assert_eq!(super::evictions(&sim), 0);
}

/// `rollback` is asked of a node that is held.
#[test]
fn a_held_node_that_waits_for_the_kubelet_is_not_taken_down() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Unloading);
    for node in ["n1", "n2", "n3", "n4"] {
        sim.deselect(node);
    }
    sim.reboot("n1");
    sim.pass(7200);
    assert!(condition(&sim, COLLAPSED));
    for node in ["n2", "n3", "n4"] {
        sim.assert_runs(node, "13.0.0");
    }
    assert!(sim.machines["n1"].loaded.is_some(), "{}", sim.describe());
}
