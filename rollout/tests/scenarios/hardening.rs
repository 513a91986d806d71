//! Tenants, clocks, slow turns and second installations: none of them costs the cluster a node.

use cxi_api::{GoDuration, Phase, Reason, names::INSTALLATION_ANNOTATION, strategy::OnTimeout};
use cxi_rollout::Action;
use rstest::rstest;

use super::{evicting, evictions, message, reason, upgrade};
use crate::sim::{Sim, Workload, build::spec, seconds};

/// A pod that is given 285 years to end. Without Force the node is not closed for it, and serves.
#[rstest]
#[case(OnTimeout::GiveBack)]
#[case(OnTimeout::Fail)]
fn a_grace_period_of_centuries_keeps_no_node_closed(#[case] then: OnTimeout) {
    let mut sim = evicting(3);
    sim.edit(|spec| spec.update_strategy.drain.on_timeout = then);
    sim.start(Workload { stubborn: true, grace: seconds(9_000_000_000), ..Workload::job("long").on("n1") });
    upgrade(&mut sim, "13.1.0");
    sim.until("the others", |sim| ["n2", "n3"].iter().all(|node| sim.phase(node) == Some(Phase::UpToDate)));
    sim.pass(86_400);
    assert_eq!(reason(&sim, "n1"), Some(Reason::LongGracePeriod), "{}", message(&sim, "n1"));
    sim.assert_runs("n1", "13.0.0");
    assert_eq!((evictions(&sim), sim.driver().status.failed), (0, 0));
}

#[test]
fn force_gives_a_pod_as_much_time_as_the_limit_of_grace_periods() {
    let mut sim = evicting(1);
    sim.edit(|spec| {
        spec.update_strategy.drain.on_timeout = OnTimeout::Force;
        spec.update_strategy.drain.evict_timeout = GoDuration::minutes(30);
        spec.update_strategy.drain.max_grace_period = GoDuration::minutes(10);
    });
    sim.start(Workload { stubborn: true, grace: seconds(9_000_000_000), ..Workload::job("long").on("n1") });
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Evicting);
    let closed = sim.now;
    sim.until_phase("n1", Phase::UpToDate);
    let took = sim.now.duration_since(closed).as_secs();
    assert!((40 * 60..50 * 60).contains(&took), "{took} s");
}

/// Told to end by its owner, with years to do so, on a node that is closed already.
#[rstest]
#[case(OnTimeout::GiveBack, Phase::Pending, "13.0.0")]
#[case(OnTimeout::Force, Phase::UpToDate, "13.1.0")]
fn a_pod_deleted_with_a_long_grace_period_on_a_closed_node(
    #[case] then: OnTimeout,
    #[case] phase: Phase,
    #[case] version: &str,
) {
    let mut sim = evicting(1);
    sim.edit(|spec| {
        spec.update_strategy.drain.on_timeout = then;
        spec.update_strategy.drain.evict_timeout = GoDuration::minutes(5);
        spec.update_strategy.drain.max_grace_period = GoDuration::minutes(10);
    });
    sim.start(Workload { stubborn: true, ..Workload::job("long").on("n1") });
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    let pod = sim.pods[0].holder.uid.clone();
    sim.end_pod_within(&pod, seconds(9_000_000_000));
    sim.project_holders();
    sim.pass(20 * 60);
    assert_eq!(sim.phase("n1"), Some(phase), "{}", sim.describe());
    sim.assert_runs("n1", version);
}

/// A tenant's pod names the node itself and comes back as soon as the kubelet refuses it, every few seconds.
#[test]
fn pods_that_name_a_closed_node_do_not_keep_it_closed() {
    let mut sim = evicting(2);
    let mut evil = Workload::job("evil").on("n1");
    evil.by_name = true;
    sim.edit(|spec| spec.update_strategy.drain.evict_timeout = GoDuration::minutes(10));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    sim.workloads.push(evil);
    let mut closed = 0;
    let mut longest = 0;
    for _ in 0..3600 {
        sim.round();
        let offers = sim.node("n1").allocatable["hpe.com/cxi"] > 0;
        closed = if offers { 0 } else { closed + 1 };
        longest = longest.max(closed);
    }
    assert!(longest < 120, "closed for {longest} rounds");
    sim.assert_up_to_date("n1");
    sim.assert_up_to_date("n2");
}

/// The same while the node waits for its jobs, and under the retry handler.
#[test]
fn pods_that_name_a_waiting_node_do_not_hold_it_up() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.edit(|spec| spec.update_strategy.drain.policy = cxi_api::strategy::DrainPolicy::WaitForCompletion);
    sim.start(Workload::job("job").on("n1").for_seconds(600));
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Waiting);
    let mut evil = Workload::job("evil").on("n1");
    evil.by_name = true;
    sim.workloads.push(evil);
    sim.until_phase("n1", Phase::Unloading);
    assert_eq!(evictions(&sim), 0);
    sim.workloads.retain(|workload| workload.name != "evil");
    sim.settle();
    sim.assert_all_up_to_date();
}

/// The kubelet accepted it a moment before the node was closed, and the API does not show that yet.
#[test]
fn a_pod_that_was_accepted_and_does_not_look_so_is_a_holder() {
    let mut sim = evicting(1);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Closing);
    let job = Workload { idle: true, ..Workload::job("quick").on("n1") };
    sim.workloads.push(job.clone());
    sim.bind(&job, "n1", "quick".into());
    // Its kubelet is slow to say so: the sim's kubelets report what they accepted when their node is Ready.
    sim.pods[0].accepted = true;
    for _ in 0..20 {
        let (pods, seen) = (sim.pods.clone(), sim.snapshot());
        let plan = sim.plan(&seen);
        for action in &plan.actions {
            let _ = sim.apply(action, &seen);
        }
        sim.pods = pods;
        sim.project_holders();
        sim.kubelet("n1");
        sim.agent("n1");
        sim.now += seconds(1);
    }
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.0.0"), "{}", sim.describe());
    assert!(matches!(sim.phase("n1"), Some(Phase::Closing | Phase::Evicting)), "{:?}", sim.phase("n1"));
}

/// The resource gets another name while pods hold NICs under the old one: they are found, waited for and evicted like others.
#[test]
fn holders_under_an_earlier_resource_name_are_holders() {
    let mut sim = evicting(2);
    sim.start(Workload::job("old").on("n1"));
    sim.edit(|spec| spec.device_plugin.resource_name = "hpe.com/nic".into());
    sim.settle();
    assert_eq!(sim.driver().status.resource_names, ["hpe.com/nic", "hpe.com/cxi"]);
    assert_eq!(sim.node("n1").allocatable["hpe.com/cxi"], 0);
    assert!(sim.node("n1").allocatable["hpe.com/nic"] > 0);
    sim.start(Workload { resource: "hpe.com/nic".into(), ..Workload::job("new").on("n1") });
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Evicting);
    sim.until("the upgrade", |sim| sim.phase("n1") == Some(Phase::UpToDate));
    assert_eq!(evictions(&sim), 2, "both were evicted");
    // That no pod has a NIC under it any more is never certain enough: the name stays.
    sim.workloads.retain(|workload| workload.name != "old");
    sim.settle();
    assert_eq!(sim.driver().status.resource_names, ["hpe.com/nic", "hpe.com/cxi"]);
}

/// The operator before this one wrote no names down, and the name is changed in the moment of the upgrade: what the DaemonSet still
/// offers counts.
#[test]
fn a_name_that_was_never_written_down_is_known_from_the_daemonset() {
    let mut sim = evicting(1);
    sim.start(Workload { idle: true, ..Workload::job("old").on("n1") });
    sim.driver_mut("cxi").status.resource_names.clear();
    sim.driver_mut("cxi").status.installation = None;
    sim.edit(|spec| spec.device_plugin.resource_name = "hpe.com/nic".into());
    sim.pass(60);
    assert!(sim.driver().status.resource_names.contains(&"hpe.com/cxi".to_owned()));
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(evictions(&sim), 1);
}

/// The links are down when the name is changed, and the operands cannot be applied: the old plugin offers the old name again later.
#[test]
fn a_name_is_not_forgotten_because_nothing_is_offered_for_a_moment() {
    let mut sim = evicting(1);
    let cables =
        |sim: &mut Sim, plugged: bool| sim.machine_mut("n1").nics.values_mut().for_each(|cable| *cable = plugged);
    cables(&mut sim, false);
    sim.pass(30);
    sim.api.agent_policy = cxi_rollout::world::AgentPolicy::Unknown;
    sim.edit(|spec| spec.device_plugin.resource_name = "hpe.com/nic".into());
    sim.pass(30);
    cables(&mut sim, true);
    sim.pass(30);
    sim.start(Workload { idle: true, ..Workload::job("old").on("n1") });
    sim.api.agent_policy = cxi_rollout::world::AgentPolicy::InForce;
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(evictions(&sim), 1);
}

/// An object about a node that is not the driver's cannot be read. That concerns no node of the driver, and no deletion.
#[test]
fn what_cannot_be_read_of_foreign_nodes_concerns_no_driver() {
    let mut sim = evicting(2);
    sim.add_node("gpu");
    sim.unlabel("gpu", crate::sim::SELECTOR);
    sim.settle();
    sim.node_mut("gpu").unreadable = Some("NodeModulesConfig gpu cannot be read".into());
    upgrade(&mut sim, "13.1.0");
    sim.pass(6 * 3600);
    sim.assert_up_to_date("n1");
    sim.assert_up_to_date("n2");
    sim.delete_driver("cxi");
    assert!(sim.run_until(6 * 3600, |sim| sim.driver_named("cxi").is_none()), "{}", sim.describe());
}

/// KMM has unloaded the driver, and the agent does not come to say so: that is no failure of the driver.
#[test]
fn an_agent_that_is_silent_after_the_unload_halts_no_rollout() {
    let mut sim = evicting(2);
    upgrade(&mut sim, "13.1.0");
    sim.until("n1 is told to unload", |sim| {
        let labelled = sim.node("n1").labels.keys().any(|key| key.starts_with("kmm.node.kubernetes.io/version-module"));
        sim.phase("n1") == Some(Phase::Unloading) && !labelled
    });
    sim.machine_mut("n1").agent_silent = true;
    if let Some(report) = &mut sim.node_mut("n1").record.as_mut().unwrap().report {
        report.acknowledged = None;
    }
    sim.pass(3600);
    assert_eq!((sim.phase("n1"), reason(&sim, "n1")), (Some(Phase::Unloading), Some(Reason::AgentSilent)));
    assert!(sim.driver().status.rollout.as_ref().unwrap().halted.is_none());
    sim.machine_mut("n1").agent_silent = false;
    sim.until("both", |sim| sim.driver().status.updated == 2);
    sim.assert_all_up_to_date();
}

/// A leader's clock was ahead when it wrote, and the next leader's is right.
#[rstest]
fn a_clock_that_was_ahead_leaves_nothing_frozen(
    #[values(600, 86_400, 365 * 86_400)] ahead: i64,
    #[values(
        Phase::Admitted,
        Phase::Closing,
        Phase::Quiesced,
        Phase::Unloading,
        Phase::Loading,
        Phase::Verifying,
        Phase::Returning
    )]
    phase: Phase,
) {
    let mut sim = evicting(2);
    sim.skew = ahead;
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", phase);
    sim.skew = 0;
    sim.restart_operator();
    let done = sim.run_until(1_800, |sim| sim.driver().status.updated == 2);
    assert!(done, "{}", sim.describe());
    sim.assert_all_up_to_date();
}

#[test]
fn a_back_off_of_a_clock_that_was_ahead_is_as_long_as_others() {
    let mut sim = evicting(1);
    sim.skew = 365 * 86_400;
    sim.machine_mut("n1").pull_fails = true;
    upgrade(&mut sim, "13.1.0");
    sim.until("given back", |sim| sim.node("n1").rollout().is_some_and(|record| record.pause.is_some()));
    sim.skew = 0;
    sim.restart_operator();
    sim.machine_mut("n1").pull_fails = false;
    assert!(sim.run_until(3 * 3600, |sim| sim.phase("n1") == Some(Phase::UpToDate)), "{}", sim.describe());
}

/// Each turn of the operator takes half a minute, because of the cluster's size or a busy machine.
#[rstest]
fn slow_turns_end_well(#[values(2, 12, 30, 60)] pause: u64) {
    let mut sim = evicting(3);
    for node in ["n1", "n2"] {
        sim.start(Workload::job(node).on(node));
    }
    upgrade(&mut sim, "13.1.0");
    for _ in 0..(4 * 3600 / pause) {
        sim.operate();
        for _ in 0..pause {
            sim.environment();
            sim.now += seconds(1);
        }
        assert!(sim.node_names().iter().all(|node| sim.phase(node) != Some(Phase::Quarantined)), "{}", sim.describe());
    }
    assert!(sim.driver().status.rollout.as_ref().unwrap().halted.is_none());
    sim.assert_all_up_to_date();
}

/// Before KMM is told anything, a node that cannot be proved quiet is given back: its driver is there and was verified.
#[rstest]
fn an_agent_that_is_silent_before_the_unload_quarantines_no_node(
    #[values(Phase::Closing, Phase::Quiesced, Phase::Unloading)] phase: Phase,
) {
    let mut sim = evicting(2);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", phase);
    let labelled = sim.node("n1").labels.keys().any(|key| key.starts_with("kmm.node.kubernetes.io/version-module"));
    assert!(labelled, "KMM was told nothing yet");
    sim.machine_mut("n1").agent_silent = true;
    sim.restart_operator();
    if let Some(report) = &mut sim.node_mut("n1").record.as_mut().unwrap().report {
        report.acknowledged = None;
    }
    sim.pass(3600);
    assert_ne!(sim.phase("n1"), Some(Phase::Quarantined), "{}", sim.describe());
    assert_eq!(sim.machines["n1"].loaded.as_deref(), Some("13.0.0"));
    assert!(sim.driver().status.rollout.as_ref().unwrap().halted.is_none());
    assert_eq!(sim.driver().status.failed, 0);
    sim.machine_mut("n1").agent_silent = false;
    sim.until("both", |sim| sim.driver().status.updated == 2);
    sim.assert_all_up_to_date();
}

/// The spec is reverted after the unload was decided, and before KMM was told.
#[test]
fn a_revert_in_the_last_moment_costs_no_reload() {
    let mut sim = evicting(1);
    upgrade(&mut sim, "13.1.0");
    sim.until_phase("n1", Phase::Unloading);
    upgrade(&mut sim, "13.0.0");
    let loaded = sim.machines["n1"].loaded_at;
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.machines["n1"].loaded_at, loaded, "the driver was loaded again");
}

/// A second operator sees the same CXIDrivers, CXINodes and nodes, and its own namespace.
#[test]
fn a_second_installation_changes_nothing() {
    let mut sim = Sim::installed(20, spec("13.0.0"));
    let mut world = (*sim.snapshot()).clone();
    world.namespace = "elsewhere".into();
    for node in world.nodes.values_mut() {
        node.kmm_has.clear();
        node.kmm_wants.clear();
        node.pods.clear();
        node.looks.clear();
    }
    for stored in [true, false] {
        if !stored {
            // Its status was lost: the labels on the nodes still tell.
            world.drivers[0].status.installation = None;
        }
        let plan = sim.plan(&world);
        assert_eq!(plan.actions, [], "stored: {stored}");
        let why = cxi_rollout::another_installation(&world, &world.drivers[0]).expect("another one");
        assert!(why.contains("docs/install.md"), "{why}");
    }
    // The administrator says that the other one is gone. Then it is one node after the other, and those that carry labels of the
    // other wait.
    world.drivers[0].installation = Some("elsewhere".into());
    let plan = sim.plan(&world);
    let claims = |action: &Action| matches!(action, Action::WriteDriverStatus { status, .. } if status.installation.as_deref() == Some("elsewhere"));
    assert!(plan.actions.len() == 1 && claims(&plan.actions[0]), "{:?}", plan.actions);
    assert!(INSTALLATION_ANNOTATION.ends_with("installation"));
}

/// Labels that were taken off all nodes at once, a moment before KMM acts: they go in turn, not all at once.
#[test]
fn repairs_keep_to_the_budget_until_kmm_has_acted() {
    let mut sim = Sim::installed(10, spec("13.0.0"));
    sim.kmm_runs = false;
    for node in sim.node_names() {
        sim.remove_version_labels_by_hand(&node);
    }
    for _ in 0..3 {
        sim.operate();
    }
    let in_flight = sim.driver().status.rollout.as_ref().unwrap().in_flight.len();
    assert!(in_flight <= 1, "{in_flight} at once");
    sim.kmm_runs = true;
    sim.settle();
    sim.assert_all_up_to_date();
}

/// Two mistakes in spec.version, taken back before any node moved, then an upgrade: one node is to go back.
#[test]
fn mistakes_that_never_ran_do_not_push_the_last_good_revision_out() {
    let mut sim = evicting(2);
    for mistake in ["13.9.0", "13.9.1"] {
        sim.image(mistake, crate::sim::KERNEL, false);
        upgrade(&mut sim, mistake);
        sim.pass(120);
        upgrade(&mut sim, "13.0.0");
        sim.pass(120);
    }
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    sim.assert_all_up_to_date();
    sim.ask("n1", "rollback");
    sim.settle();
    sim.assert_runs("n1", "13.0.0");
}

#[test]
fn a_rollback_that_cannot_be_had_says_why() {
    let mut sim = evicting(1);
    sim.ask("n1", "rollback");
    sim.settle();
    assert_eq!(reason(&sim, "n1"), Some(Reason::NoRollback), "{}", sim.describe());
    sim.unlabel("n1", cxi_api::names::UPGRADE_LABEL);
    sim.settle();
    assert_eq!(reason(&sim, "n1"), None);
}

/// A node whose record cannot be read is down as far as anybody knows: it uses up the budget, and nothing on it changes.
#[test]
fn a_node_that_cannot_be_read_is_left_alone_and_the_others_go_on() {
    let mut sim = evicting(4);
    sim.edit(|spec| {
        spec.update_strategy.max_unavailable = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(2);
    });
    sim.blind("n2");
    upgrade(&mut sim, "13.1.0");
    sim.pass(3600);
    for node in ["n1", "n3", "n4"] {
        sim.assert_up_to_date(node);
    }
    assert_eq!(sim.machines["n2"].loaded.as_deref(), Some("13.0.0"));
    assert!(sim.node("n2").record.is_none(), "no record is made over one that is there");
    assert!(sim.api.revisions.len() >= 2, "no Module goes while it is not known what the node runs");
    sim.reveal("n2");
    sim.settle();
    sim.assert_all_up_to_date();
}

/// A CXIDriver that cannot be read keeps its nodes, and another one goes on.
#[test]
fn a_driver_that_cannot_be_read_keeps_its_nodes() {
    let mut sim = evicting(2);
    let hidden = sim.api.drivers.remove(0);
    let (name, uid) = (hidden.name.clone(), hidden.uid.clone());
    sim.api.unreadable_drivers.push(cxi_rollout::world::UnreadableDriver {
        name,
        uid,
        why: "spec.waitTimeout".into(),
        told: false,
    });
    let seen = sim.snapshot();
    let plan = sim.plan(&seen);
    assert!(
        matches!(plan.actions.as_slice(), [Action::SayUnreadable { driver, .. }] if driver == "cxi"),
        "{:?}",
        plan.actions
    );
    sim.api.unreadable_drivers[0].told = true;
    let seen = sim.snapshot();
    let plan = sim.plan(&seen);
    assert_eq!(plan.actions, []);
}
