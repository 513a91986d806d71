//! One random run: operators on fresh and stale views, lost writes, crashes, everybody dawdling; then fair weather.

use cxi_api::{
    CXIDriverSpec, GoDuration, Phase, Validation,
    driver::{RetryHandlerMode, SourceType},
    names::UPGRADE_LABEL,
    preflight::{After, CXIPreflightSpec},
    strategy::{DrainPolicy, OnTimeout, StandingValidation, UpdateType, ValidatedNodes},
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::event::Event;
use crate::sim::{
    Budget, SELECTOR, Seen, Sim, Workload,
    build::spec,
    preflight::{trial, validation},
    seconds,
};

const VERSIONS: [&str; 3] = ["13.0.0", "13.1.0", "13.2.0"];
const KERNELS: [&str; 2] = ["6.12.1", "6.12.2"];
/// Names of the resource.
const RESOURCES: [&str; 2] = ["hpe.com/cxi", "beta.hpe.com/cxi"];
/// A driver that selects the same nodes.
const RIVAL: &str = "rival";
/// Release of the driver that hosts bring.
const HOSTS: &str = "12.9.0";

/// Runs `events`, each at its tick, on a cluster of `nodes`.
pub fn run(nodes: usize, seed: u64, policy: u8, events: &[(u32, Event)]) {
    let mut wanted = spec(VERSIONS[0]);
    let drain = &mut wanted.update_strategy.drain;
    drain.policy = [DrainPolicy::Evict, DrainPolicy::WaitThenEvict, DrainPolicy::WaitForCompletion, DrainPolicy::Evict]
        [usize::from(policy)];
    drain.on_timeout = if policy == 3 { OnTimeout::Force } else { OnTimeout::GiveBack };
    drain.wait_timeout = GoDuration::minutes(2);
    drain.evict_timeout = GoDuration::minutes(2);
    wanted.update_strategy.max_unavailable = IntOrString::Int(2);
    let mut sim = Sim::new(nodes, wanted);
    // Half of the runs start from a cluster that runs.
    if seed.is_multiple_of(2) {
        sim.settle();
        sim.writes.clear();
    }
    sim.dice = seed | 1;
    let mut stale = sim.snapshot();
    let last = events.iter().map(|(tick, _)| *tick).max().unwrap_or(0) + 40;
    for tick in 0..last {
        for (_, event) in events.iter().filter(|(at, _)| *at == tick) {
            happen(&mut sim, *event);
        }
        turbulent_round(&mut sim, &mut stale);
    }
    clear_up(&mut sim);
    assert!(sim.run_until(300_000, in_order), "it does not end:\n{}", sim.describe());
    sim.settle();
    assert!(in_order(&sim), "it does not stay:\n{}", sim.describe());
}

/// An operator with a fresh or a stale view, of whose actions some are lost, and perhaps a crash; then the others.
fn turbulent_round(sim: &mut Sim, stale: &mut Seen) {
    let fresh = sim.snapshot();
    let turns = match sim.roll(6) {
        0 => vec![stale.clone()],
        1 => vec![fresh.clone(), fresh.clone()],
        2 => vec![stale.clone(), fresh.clone()],
        3 => Vec::new(),
        _ => vec![fresh.clone()],
    };
    let plans: Vec<_> = turns.into_iter().map(|seen| (sim.plan(&seen), seen)).collect();
    for (plan, seen) in plans {
        sim.oracle_plan(&plan);
        for action in &plan.actions {
            if sim.roll(8) == 0 {
                continue;
            }
            let _ = sim.apply(action, &seen);
            if sim.roll(12) == 0 {
                sim.somebody_else();
            }
            if sim.roll(30) == 0 {
                // Dies between two writes.
                sim.restart_operator();
                break;
            }
        }
    }
    if sim.roll(3) == 0 {
        *stale = fresh;
    }
    sim.environment();
    let pause = seconds(1 + sim.roll(3));
    sim.now += pause;
}

#[allow(clippy::too_many_lines, reason = "one line an event")]
fn happen(sim: &mut Sim, event: Event) {
    if sim.driver_named("cxi").is_none() {
        return;
    }
    let names = sim.node_names();
    let pick = |node: u8| names.get(usize::from(node) % names.len().max(1)).cloned();
    let version = |version: u8| VERSIONS[usize::from(version)].to_owned();
    match event {
        Event::Upgrade(to) => sim.edit(|spec| spec.version = version(to)),
        Event::RetryHandler(number) => {
            sim.edit(|spec| spec.retry_handler.image = Some(format!("registry/cxi-rh:{number}")));
        }
        Event::RunRetryHandler(wanted) => {
            let mode = if wanted { RetryHandlerMode::Daemonset } else { RetryHandlerMode::None };
            sim.edit(|spec| spec.retry_handler.mode = mode);
        }
        Event::Plugin(wanted) => sim.edit(|spec| spec.device_plugin.enabled = wanted),
        Event::Source { preinstalled, hosts_have_it } => {
            let kind = if preinstalled { SourceType::Preinstalled } else { SourceType::Prebuilt };
            sim.edit(|spec| spec.source.kind = kind);
            for machine in sim.machines.values_mut() {
                machine.host_driver = hosts_have_it.then(|| HOSTS.to_owned());
            }
        }
        Event::NoPreflight => {
            if !sim.api.preflights.is_empty() {
                sim.api.preflights.remove(0);
            }
        }
        Event::Validate(test) => {
            let standing = test_of(test).map(|pod| StandingValidation { pod, on: ValidatedNodes::EveryNode });
            sim.edit(|spec| spec.update_strategy.validation = standing);
        }
        Event::Rollback(wanted) => sim.edit(|spec| spec.update_strategy.rollback_on_failure = wanted),
        Event::OnDelete(wanted) => {
            let kind = if wanted { UpdateType::OnDelete } else { UpdateType::RollingUpdate };
            sim.edit(|spec| spec.update_strategy.kind = kind);
        }
        Event::OnTimeout(number) => {
            let wanted = [OnTimeout::GiveBack, OnTimeout::Fail, OnTimeout::Force][usize::from(number)];
            sim.edit(|spec| spec.update_strategy.drain.on_timeout = wanted);
        }
        Event::Rename(other) => {
            sim.edit(|spec| RESOURCES[usize::from(other)].clone_into(&mut spec.device_plugin.resource_name));
        }
        Event::Year(ahead) => {
            sim.operator.looks.clear();
            sim.skew = if ahead { 365 * 86_400 } else { 0 };
        }
        Event::History(number) => sim.edit(|spec| spec.revision_history_limit = number.into()),
        Event::Rival if sim.driver_named(RIVAL).is_none() => sim.add_driver(RIVAL, spec(VERSIONS[1])),
        Event::NoRival if sim.driver_named(RIVAL).is_some() => sim.delete_driver(RIVAL),
        Event::Rival | Event::NoRival => {}
        Event::Pause => sim.edit(|spec| spec.paused = !spec.paused),
        Event::Budget(number) => {
            sim.edit(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(number.into()));
        }
        Event::Forbid(number) => {
            if let Some(workload) = sim.workloads.get(usize::from(number)) {
                let name = workload.name.clone();
                sim.budgets.push(Budget::over(&name, 1));
                sim.project_holders();
            }
        }
        Event::Allow => {
            sim.budgets.clear();
            sim.project_holders();
        }
        Event::Add => {
            let name = format!("n{}", sim.serial + 10);
            sim.add_node(&name);
        }
        Event::MissingImage { version: of, kernel } => sim.image(&version(of), KERNELS[usize::from(kernel)], false),
        Event::StopKmm => sim.kmm_runs = false,
        Event::StartKmm => sim.kmm_runs = true,
        Event::WipeLedger => {
            // Under which names pods may hold NICs is written nowhere else.
            let driver = sim.driver_mut("cxi");
            let resource_names = std::mem::take(&mut driver.status.resource_names);
            driver.status = cxi_api::CXIDriverStatus { resource_names, ..cxi_api::CXIDriverStatus::default() };
        }
        Event::Resume => sim.resume(),
        Event::Restart => sim.restart_operator(),
        Event::Clock(skew) => {
            // The operator notices when its clock is put forward, or back by more than a minute.
            if i64::from(skew) > sim.skew || i64::from(skew) < sim.skew - 60 {
                sim.operator.looks.clear();
            }
            sim.skew = skew.into();
        }
        Event::DeleteDriver { orphan } => {
            sim.driver_mut("cxi").orphan = orphan;
            sim.delete_driver("cxi");
        }
        Event::Job { node, .. }
        | Event::ByName(node)
        | Event::Blind(node)
        | Event::Reveal(node)
        | Event::HandLabel { node, .. }
        | Event::DropLabels(node)
        | Event::Forge { node, .. }
        | Event::Preflight { node, .. }
        | Event::Reboot { node, .. }
        | Event::NotReady(node)
        | Event::Ready(node)
        | Event::Delete(node)
        | Event::Recreate(node)
        | Event::Deselect(node)
        | Event::Select(node)
        | Event::Silence(node)
        | Event::BadVersion { node, .. }
        | Event::Dark { node, .. }
        | Event::PullFails(node)
        | Event::PodsRefused(node)
        | Event::OpenDevice(node)
        | Event::CloseDevice(node)
        | Event::DeleteRecord(node)
        | Event::Ask { node, .. }
        | Event::Cordon(node) => {
            if let Some(name) = pick(node) {
                happen_to(sim, &name, event);
            }
        }
    }
}

fn happen_to(sim: &mut Sim, name: &str, event: Event) {
    let version = |version: u8| VERSIONS[usize::from(version)].to_owned();
    match event {
        Event::Job { stubborn, runtime, .. } => {
            let job = Workload::job(&format!("job-{}", sim.workloads.len()));
            let runtime = (runtime > 0).then(|| seconds(runtime.into()));
            let resource = sim.driver().spec.device_plugin.resource_name.clone();
            sim.start(Workload { stubborn, runtime, node: stubborn.then(|| name.to_owned()), resource, ..job });
        }
        Event::ByName(_) => {
            let job = Workload::job(&format!("named-{}", sim.workloads.len())).on(name);
            sim.start(Workload { by_name: true, ..job });
        }
        Event::Blind(_) => sim.blind(name),
        Event::Reveal(_) => sim.reveal(name),
        Event::Reboot { kernel, .. } => sim.reboot_into(name, KERNELS[usize::from(kernel)]),
        Event::NotReady(_) => sim.node_mut(name).ready = false,
        Event::Ready(_) => sim.node_mut(name).ready = sim.machines[name].boots_until.is_none(),
        Event::Delete(_) => sim.delete_node(name),
        Event::Recreate(_) => {
            let stale = sim.node(name).record.clone().map(|record| record.uid);
            sim.delete_node(name);
            sim.add_node(name);
            sim.node_mut(name).stale_record = stale;
        }
        Event::Deselect(_) => sim.deselect(name),
        Event::Select(_) => sim.select(name),
        Event::Silence(_) => sim.machine_mut(name).agent_silent = true,
        Event::BadVersion { version: bad, .. } => drop(sim.machine_mut(name).bad_versions.insert(version(bad))),
        Event::Dark { version: dark, .. } => drop(sim.machine_mut(name).dark_versions.insert(version(dark))),
        Event::PullFails(_) => sim.machine_mut(name).pull_fails = true,
        Event::PodsRefused(_) => sim.machine_mut(name).refuses_pods = Some("OutOfpods".into()),
        Event::OpenDevice(_) => sim.open_device(name, "fi_pingpong"),
        Event::CloseDevice(_) => sim.close_device(name),
        Event::DeleteRecord(_) => sim.node_mut(name).record = None,
        Event::Ask { request, .. } => {
            sim.ask(name, ["skip", "now", "retry", "rollback"][usize::from(request)]);
        }
        Event::Cordon(_) => sim.node_mut(name).cordoned = true,
        Event::HandLabel { version: of, .. } => {
            let known = sim.api.revisions.iter().any(|revision| revision.version == version(of));
            if known {
                sim.version_label_by_hand(name, &version(of));
            }
        }
        Event::DropLabels(_) => sim.remove_version_labels_by_hand(name),
        Event::Preflight { version, keep, test, .. } => {
            let after = if keep { After::Keep } else { After::Return };
            let validation = test_of(test);
            let number = sim.uid("question");
            let spec = CXIPreflightSpec { after, validation, ..trial(VERSIONS[usize::from(version)], name) };
            sim.ask_about(&number, spec);
        }
        Event::Forge { phase, .. } => {
            let record = sim.node_mut(name).record.as_mut();
            if let Some(rollout) = record.and_then(|record| record.rollout.as_mut()) {
                rollout.phase = Phase::ALL[usize::from(phase)];
            }
        }
        _ => unreachable!("{event:?} is not about a node"),
    }
}

/// The test of a number.
fn test_of(number: u8) -> Option<Validation> {
    [None, Some("passes"), Some("fails"), Some("hangs")][usize::from(number)].map(validation)
}

/// All faults are lifted, and an administrator who reads what is in the way does what is advised.
fn clear_up(sim: &mut Sim) {
    sim.dice = 0;
    // The operator notices that its clock is set.
    happen(sim, Event::Clock(0));
    sim.kmm_runs = true;
    sim.missing.clear();
    sim.api.preflights.clear();
    sim.budgets.clear();
    for workload in &mut sim.workloads {
        workload.by_name = false;
        workload.stuck = false;
        workload.runtime = Some(seconds(60));
    }
    for machine in sim.machines.values_mut() {
        machine.agent_silent = false;
        machine.bad_versions.clear();
        machine.dark_versions.clear();
        machine.pull_fails = false;
        machine.refuses_pods = None;
        machine.processes.clear();
        machine.host_driver = None;
    }
    for name in sim.node_names() {
        sim.reveal(&name);
        let booting = sim.machines[&name].boots_until.is_some();
        let node = sim.node_mut(&name);
        node.cordoned = false;
        node.ready = !booting;
        node.labels.insert(SELECTOR.into(), "true".into());
        node.labels.remove(UPGRADE_LABEL);
    }
    sim.project_holders();
    let unblock = |sim: &mut Sim| {
        sim.edit(|spec: &mut CXIDriverSpec| {
            spec.paused = false;
            spec.update_strategy.validation = None;
            spec.update_strategy.max_unavailable = IntOrString::Int(1);
            spec.source.kind = SourceType::Prebuilt;
            spec.update_strategy.kind = UpdateType::RollingUpdate;
            spec.device_plugin.enabled = true;
            spec.retry_handler.mode = RetryHandlerMode::Daemonset;
        });
    };
    if sim.driver_named(RIVAL).is_some() {
        sim.delete_driver(RIVAL);
        let gone = sim.run_until(300_000, |sim| sim.driver_named(RIVAL).is_none());
        assert!(gone, "the rival does not go:\n{}", sim.describe());
    }
    if sim.driver_named("cxi").is_some_and(|driver| driver.deleting) {
        unblock(sim);
        // A teardown that halted goes on when the administrator says so, and asks for another try where a node failed.
        sim.pass(120);
        if sim.driver_named("cxi").is_some() {
            sim.resume();
        }
        for name in sim.node_names() {
            if sim.phase(&name) == Some(Phase::Quarantined) {
                sim.ask(&name, "retry");
            }
        }
        let gone = sim.run_until(300_000, |sim| sim.driver_named("cxi").is_none());
        assert!(gone, "the driver does not go:\n{}", sim.describe());
    }
    if sim.driver_named("cxi").is_none() {
        sim.add_driver("cxi", spec(VERSIONS[1]));
    }
    unblock(sim);
    // Let it see that the labels are gone, then ask for another try where one is needed.
    sim.pass(120);
    sim.resume();
    for name in sim.node_names() {
        if sim.phase(&name) != Some(Phase::UpToDate) {
            sim.ask(&name, "retry");
        }
    }
}

fn in_order(sim: &Sim) -> bool {
    let status = &sim.driver().status;
    let all = i32::try_from(sim.api.nodes.len()).unwrap();
    status.total == all && status.updated == all && status.updating == 0
}
