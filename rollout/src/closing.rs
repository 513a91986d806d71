//! From admission to the proof that the device is free: Admitted, Waiting, Closing, Evicting, Quiesced. Everything here
//! can be taken back without a driver reload.

use std::time::Duration;

use cxi_api::{
    Advertise, NodeRollout, Phase, Reason, Timestamp,
    names::Role,
    node::{Cause, EvictionRecord, Snapshot},
    strategy::{DrainPolicy, OnTimeout},
};

use crate::{
    action::Action,
    disruption::{self, Allowance, Obstacle},
    gates::Pods,
    looks::Steps,
    prefetch::{self, Prefetch},
    proof::{NotQuiet, Quiesced, hidden_holder, host_holder, is_refused, kmm_at_work, serves, version_labels},
    retry_handler, settled,
    step::{Ctx, Next},
    text,
    world::{Holder, Look},
};

/// How long a pod may overstay its grace period before it is called stuck.
const OVERSTAY: Duration = Duration::from_secs(30);

/// A report that answers nothing after this time is not one from before.
const STALE: Duration = Duration::from_secs(5);

/// How long a node that waits takes pods into account that its kubelet has neither accepted nor refused.
const UNDECIDED: Duration = Duration::from_mins(1);

/// What a closed node is given beyond the time limits of its pods, for the steps in between.
const SLACK: Duration = Duration::from_mins(2);

const AWAITS_RETRY_HANDLER: &str = "the node waits until the retry handler has ended";

/// Pods that a record names as evicted, at most.
const NOTED: usize = 32;

/// Pulls the images and takes the snapshot; nothing has been taken away yet.
pub fn admitted(ctx: &Ctx<'_>, next: &mut Next) {
    if reboot(ctx, next) || called_off(ctx, next) {
        return;
    }
    let Some(report) = ctx.node.report() else {
        let message = "the node agent does not report: look at its pod on the node".to_owned();
        if ctx.due(next.record.since, ctx.settings.prefetch) {
            next.give_back(ctx, Reason::AgentSilent, ("", ""), message);
        } else {
            next.block(ctx, Reason::AgentSilent, ("", ""), message);
        }
        return;
    };
    // A driver that stays needs no image.
    let pulled = if keeps_driver(ctx, next) {
        Prefetch::Done(next.record.expected.clone())
    } else {
        prefetch::images(ctx, next)
    };
    match pulled {
        Prefetch::Done(expected) => {
            prefetch::remember(&mut next.record, expected);
            // After a reboot that came in between, the driver may not be loaded yet: what was seen before stands.
            next.record.snapshot = next.record.snapshot.take().or_else(|| {
                Some(Snapshot {
                    devices: report.devices.iter().map(|nic| nic.pci_address.clone()).collect(),
                    links_up: report
                        .devices
                        .iter()
                        .filter(|nic| nic.is_linked())
                        .map(|nic| nic.pci_address.clone())
                        .collect(),
                    build_ids: report.build_ids(),
                })
            });
            leave_admitted(ctx, next);
        }
        Prefetch::Running => prefetch::late(ctx, next),
        Prefetch::NotRun(why) => prefetch::not_run(ctx, next, why),
        Prefetch::Trouble(message) => next.give_back(ctx, Reason::ImageMissing, ("", ""), message),
    }
}

fn leave_admitted(ctx: &Ctx<'_>, next: &mut Next) {
    let node = ctx.node;
    if keeps_driver(ctx, next) && !retry_handler::differ(ctx.driver, node) {
        // Nothing to load or unload, and the retry handler stays: what the host runs is verified, in service.
        next.enter(ctx, Phase::Verifying);
        return;
    }
    let labelled = version_labels(node, &ctx.world.namespace).next().is_some();
    let in_service =
        labelled || next.record.revision.is_some() || !holders(ctx).is_empty() || ctx.node.offered_of(ctx.driver) > 0;
    let loaded = node.report().is_some_and(|report| !report.modules.is_empty());
    if !in_service && !loaded {
        next.record.advertise = Advertise::None;
        next.enter(ctx, Phase::Unloading);
    } else if holders(ctx).is_empty() || policy(ctx) == DrainPolicy::Evict {
        close(ctx, next);
    } else {
        next.record.advertise = Advertise::InUse;
        next.enter(ctx, Phase::Waiting);
    }
}

/// Whether the transaction leaves the driver where it is: the host brings it, or only the retry handler is another.
fn keeps_driver(ctx: &Ctx<'_>, next: &Next) -> bool {
    let Some(goal) = &next.record.goal else { return false };
    let namespace = &ctx.world.namespace;
    let left = version_labels(ctx.node, namespace).next().is_none() && kmm_at_work(ctx.node, namespace).is_none();
    let by_host = settled::is_preinstalled(ctx) && left;
    by_host || next.record.cause == Some(Cause::RetryHandler) && ctx.is_labelled(goal)
}

/// Waits for pods to end; the node offers only what is in use.
pub fn waiting(ctx: &Ctx<'_>, next: &mut Next) {
    if reboot(ctx, next) || called_off(ctx, next) {
        return;
    }
    let holders = holders(ctx);
    let accepted = holders.iter().any(|holder| holder.started);
    if holders.is_empty() || !accepted && ctx.due(next.record.since, UNDECIDED) {
        return close(ctx, next);
    }
    let drain = &ctx.strategy().drain;
    // The policy may have changed while the node waited; a node that was admitted with `Evict` does not come here.
    let evicts = policy(ctx) == DrainPolicy::Evict;
    if evicts || ctx.due(next.record.since, drain.wait_timeout.0) {
        if policy(ctx) == DrainPolicy::WaitForCompletion {
            return on_timeout(ctx, next, Reason::PodsRunning, &describe(&holders));
        }
        let allowance = Allowance::new(&ctx.world.budgets);
        match disruption::in_the_way(drain, &holders, &allowance, ctx.now) {
            None => return close(ctx, next),
            Some((reason, object, message)) => {
                if ctx.due(next.record.since, drain.wait_timeout.0 + drain.evict_timeout.0) {
                    return on_timeout(ctx, next, reason, &message);
                }
                next.block(ctx, reason, (object.0, &object.1), message);
                return;
            }
        }
    }
    let (name, message) = (holders[0].full_name(), format!("waits for {}", describe(&holders)));
    settled::explain(ctx, next, Reason::PodsRunning, ("Pod", &name), message);
}

fn close(ctx: &Ctx<'_>, next: &mut Next) {
    next.record.advertise = Advertise::None;
    next.enter(ctx, Phase::Closing);
}

/// Takes the device plugin away and waits until the kubelet has noticed.
pub fn closing(ctx: &Ctx<'_>, next: &mut Next) {
    if reboot(ctx, next) || called_off(ctx, next) {
        return;
    }
    let since = next.record.since;
    if let Some(look) = Steps::of(&next.record).looks(ctx.node).next_back().filter(|look| look.is_closed()) {
        let held = look.holders.iter().any(|holder| holder.started) || !accepted(ctx).is_empty();
        return match held {
            true => {
                next.enter(ctx, Phase::Evicting);
                // In the same write, where these pods are known already.
                let holders = accepted(ctx);
                note(ctx, next, &holders, &movable(ctx, &holders));
            }
            false if serves(ctx.node) => await_retry_handler(ctx, next, since),
            false => next.enter(ctx, Phase::Quiesced),
        };
    }
    if ctx.due(since, ctx.strategy().drain.evict_timeout.0) {
        let message = format!("the kubelet still offers {} although its device plugin was taken away", ctx.resource());
        next.give_back(ctx, Reason::StillAdvertised, ("", ""), message);
    } else if ctx.pod(Role::DevicePlugin).is_none() && ctx.node.offered_of(ctx.driver) == 0 {
        look(ctx, next);
    } else if ctx.due(since, settled::SILENT) {
        let message = format!("the node waits until the kubelet withdraws {}", ctx.resource());
        settled::explain(ctx, next, Reason::StillAdvertised, ("", ""), message);
    }
}

/// Evicts the pods that hold the device. Those that the kubelet has not accepted are left to it: the node offers nothing, so it
/// refuses them.
pub fn evicting(ctx: &Ctx<'_>, next: &mut Next) {
    if reboot(ctx, next) || called_off(ctx, next) {
        return;
    }
    let holders = accepted(ctx);
    if holders.is_empty() {
        return if serves(ctx.node) { last_pod_gone(ctx, next) } else { next.enter(ctx, Phase::Quiesced) };
    }
    let drain = &ctx.strategy().drain;
    let longest = drain.max_grace_period.0;
    let closed = next.record.closed_at.unwrap_or(next.record.since);
    let past_limit = ctx.due(closed, drain.evict_timeout.0);
    let latest = later(closed, drain.evict_timeout.0.saturating_add(longest));
    let ends = holders.iter().filter_map(|holder| holder.ends).map(|ends| ends.min(latest)).max();
    let timed_out = past_limit && ends.is_none_or(|ends| ctx.due(ends, OVERSTAY));
    let force = drain.on_timeout == OnTimeout::Force;
    let movable = movable(ctx, &holders);
    // Deleted already, with a longer grace period than the node waits.
    let too_long = |holder: &&&Holder| holder.ends.is_some_and(|ends| ends > later(ctx.now, longest));
    let may_go = |holder: &&&Holder| disruption::must_stay(drain, holder).is_none();
    let shortened: Vec<&&Holder> =
        holders.iter().filter(too_long).filter(may_go).filter(|_| force && past_limit).collect();

    // Force deletes what can still be told to go; a pod that was told and stays is beyond it.
    if timed_out && (!force || movable.is_empty() && shortened.is_empty()) {
        let (reason, _, message) = why_not_gone(ctx, &holders);
        return on_timeout(ctx, next, reason, &message);
    }
    note(ctx, next, &holders, &movable);
    for holder in shortened {
        next.effects.push(force_delete(ctx, holder, longest));
    }
    for holder in movable {
        let (node, driver, pod) = (ctx.node.name.clone(), ctx.driver.name.clone(), Box::new(holder.clone()));
        if timed_out {
            next.effects.push(force_delete(ctx, holder, holder.grace.min(longest)));
        } else if holder.refused.as_ref().is_none_or(|refused| refused.retry_at <= ctx.now) {
            next.effects.push(Action::Evict { node, driver, pod });
        } else if let Some(refused) = &holder.refused {
            ctx.wake_at(refused.retry_at);
        }
    }
}

/// All pods have ended; now the retry handler may. Its time begins with the look that says so: before, the pods had theirs.
fn last_pod_gone(ctx: &Ctx<'_>, next: &mut Next) {
    let last = Steps::of(&next.record).looks(ctx.node).next_back();
    let since = last.map_or(ctx.now, |look| look.at);
    await_retry_handler(ctx, next, since);
}

/// Pods that may be evicted now: they have not been told to end, and nothing protects them.
fn movable<'h>(ctx: &Ctx<'_>, holders: &[&'h Holder]) -> Vec<&'h Holder> {
    let drain = &ctx.strategy().drain;
    let evict = policy(ctx) != DrainPolicy::WaitForCompletion || drain.on_timeout == OnTimeout::Force;
    let may_go = |holder: &&&Holder| holder.ends.is_none() && evict && disruption::must_stay(drain, holder).is_none();
    holders.iter().filter(may_go).copied().collect()
}

/// Writes down which of the holders are evicted, and what the node waits for.
fn note(ctx: &Ctx<'_>, next: &mut Next, holders: &[&Holder], movable: &[&Holder]) {
    if holders.is_empty() {
        return;
    }
    for holder in movable {
        let known = next.record.evictions.iter().any(|record| record.uid == holder.uid);
        if !known && next.record.evictions.len() < NOTED {
            next.record.evictions.push(EvictionRecord {
                namespace: holder.namespace.clone(),
                name: holder.name.clone(),
                uid: holder.uid.clone(),
            });
        }
    }
    let (reason, object, message) = why_not_gone(ctx, holders);
    settled::explain(ctx, next, reason, (object.0, &object.1), message);
}

fn force_delete(ctx: &Ctx<'_>, holder: &Holder, grace: Duration) -> Action {
    let (node, driver) = (ctx.node.name.clone(), ctx.driver.name.clone());
    Action::ForceDelete { node, driver, pod: Box::new(holder.clone()), grace }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// From the moment in which a node is closed to the unload there is one deadline, however often the node goes from one phase to the
/// other and back. After it the node is given back.
pub fn deadline(ctx: &Ctx<'_>, next: &mut Next) {
    let closed = next.record.closed_at.filter(|_| is_closed(next.record.phase));
    if let Some(closed) = closed.filter(|closed| ctx.due(*closed, closed_for(ctx))) {
        let (reason, message) = match ctx.node.rollout().and_then(|record| record.blocked_by.as_ref()) {
            Some(blocker) => (blocker.reason, blocker.message.clone()),
            None => (
                Reason::PodsRunning,
                format!("the node has been closed since {closed:.0}, and the device is not proved to be free"),
            ),
        };
        on_timeout(ctx, next, reason, &message);
    }
}

/// Whether a node in this phase offers nothing, and can still be given back with its driver loaded.
fn is_closed(phase: Phase) -> bool {
    matches!(phase, Phase::Closing | Phase::Evicting | Phase::Quiesced)
}

/// How long a node may be closed before its driver is unloaded.
fn closed_for(ctx: &Ctx<'_>) -> Duration {
    let drain = &ctx.strategy().drain;
    drain.evict_timeout.0.saturating_add(drain.max_grace_period.0).saturating_add(SLACK)
}

/// Looks twice, without a cache, whether the device is free.
pub fn quiesced(ctx: &Ctx<'_>, next: &mut Next) {
    if reboot(ctx, next) || called_off(ctx, next) {
        return;
    }
    let since = next.record.since;
    if !accepted(ctx).is_empty() {
        next.enter(ctx, Phase::Evicting);
        return;
    }
    let awaited = next.record.blocked_by.as_ref().is_some_and(|blocker| blocker.reason == Reason::RetryHandlerRunning);
    if awaited && !serves(ctx.node) {
        // What was seen and reported while the retry handler ended says nothing.
        next.enter(ctx, Phase::Quiesced);
        return;
    }
    match Quiesced::prove(ctx.node, &next.record, ctx.settings) {
        // The retry handler is gone; another one comes when the node returns.
        Ok(_) if keeps_driver(ctx, next) => next.enter(ctx, Phase::Verifying),
        Ok(_) => {
            next.record.from = next.record.revision.take().or(next.record.from.take());
            next.enter(ctx, Phase::Unloading);
            next.record.evidence_since = Some(since);
        }
        Err(NotQuiet::Pods(_)) => next.enter(ctx, Phase::Evicting),
        Err(NotQuiet::Offered) => next.enter(ctx, Phase::Closing),
        Err(NotQuiet::RetryHandler) => await_retry_handler(ctx, next, since),
        Err(NotQuiet::Host(holder)) => host_held(ctx, next, &holder),
        Err(NotQuiet::Undecided(pods)) => await_kubelet(ctx, next, &pods),
        Err(NotQuiet::AgentSilent | NotQuiet::LookAgain(_)) => await_quiet(ctx, next),
    }
}

/// Pods were bound to the node before it was closed, and its kubelet says nothing of them. Their time begins when the record says so.
fn await_kubelet(ctx: &Ctx<'_>, next: &mut Next, pods: &[Holder]) {
    let name = pods.first().map(Holder::full_name).unwrap_or_default();
    let pods: Vec<&Holder> = pods.iter().collect();
    let message = format!("the kubelet has neither accepted nor refused {}: see whether it runs", describe(&pods));
    let said = next.record.blocked_by.as_ref();
    let said = said.filter(|blocker| blocker.reason == Reason::PodsRunning && blocker.message == message);
    if said.is_some_and(|blocker| ctx.due(blocker.since, ctx.strategy().drain.evict_timeout.0)) {
        next.give_back(ctx, Reason::PodsRunning, ("Pod", &name), message);
    } else {
        if said.is_none() {
            next.unblock();
        }
        settled::explain(ctx, next, Reason::PodsRunning, ("Pod", &name), message);
        look(ctx, next);
    }
}

/// The retry handler ends once its gate is closed, and that is closed when a look shows that no pod needs it any more.
fn await_retry_handler(ctx: &Ctx<'_>, next: &mut Next, since: Timestamp) {
    if pods(ctx) != Pods::Excluded {
        let closed: Vec<&Look> = Steps::of(&next.record).looks(ctx.node).filter(|look| look.is_closed()).collect();
        // Two looks see the same pod: the kubelet had time to refuse it.
        let both = |holder: &&Holder| closed.len() > 1 && closed.iter().all(|look| look.sees(&holder.uid));
        let undecided = closed.last().map(|look| look.holders.iter().filter(both).cloned().collect::<Vec<_>>());
        return match undecided.filter(|pods| !pods.is_empty()) {
            Some(pods) => await_kubelet(ctx, next, &pods),
            None => look(ctx, next),
        };
    }
    if ctx.due(since, ctx.strategy().drain.evict_timeout.0) {
        let message = "the retry handler did not end in time: look at its pod".to_owned();
        next.give_back(ctx, Reason::RetryHandlerRunning, ("", ""), message);
    } else if next.record.phase == Phase::Quiesced || ctx.due(since, settled::SILENT) {
        // Elsewhere a word is only worth its write when it takes long.
        settled::explain(ctx, next, Reason::RetryHandlerRunning, ("", ""), AWAITS_RETRY_HANDLER.to_owned());
    }
}

/// A process outside Kubernetes has the device: the node waits a little, then it is given back.
fn host_held(ctx: &Ctx<'_>, next: &mut Next, holder: &str) {
    let message = format!("{holder}: end it, then the operator tries the node again");
    if ctx.due(next.record.since, ctx.settings.host_holder) {
        next.give_back(ctx, Reason::HostHolder, ("Process", holder), message);
    } else {
        settled::explain(ctx, next, Reason::HostHolder, ("Process", holder), message);
        look(ctx, next);
    }
}

fn await_quiet(ctx: &Ctx<'_>, next: &mut Next) {
    let since = next.record.since;
    let report = ctx.node.report();
    let answered = report.filter(|report| Steps::of(&next.record).answered_by(report));
    if answered.is_none()
        && let Some(holder) = report.and_then(|report| hidden_holder(ctx.node, report))
        && ctx.due(since, STALE)
    {
        return host_held(ctx, next, &holder);
    }
    if ctx.due(since, ctx.strategy().drain.evict_timeout.0) {
        let message = "the node agent did not report in time that the device is free".to_owned();
        return next.give_back(ctx, Reason::AgentSilent, ("", ""), message);
    }
    match answered {
        Some(report) => {
            if let Some(holder) = host_holder(ctx.node, report) {
                return host_held(ctx, next, &holder);
            }
            if next.record.blocked_by.as_ref().is_some_and(|blocker| blocker.reason != Reason::AgentSilent) {
                next.unblock();
            }
            look(ctx, next);
        }
        None if ctx.due(since, Duration::from_secs(45)) => {
            let message = "the node agent has not reported since the node was closed".to_owned();
            settled::explain(ctx, next, Reason::AgentSilent, ("", ""), message);
        }
        None => {}
    }
}

/// Asks for an uncached look: the first of a step at once, further ones not more often than makes sense.
pub fn look(ctx: &Ctx<'_>, next: &mut Next) {
    let last = Steps::present(&next.record).looks(ctx.node).next_back();
    if last.is_none_or(|look| ctx.due(look.at, ctx.settings.look_gap)) {
        next.effects.push(Action::Look {
            node: ctx.node.name.clone(),
            resources: ctx.driver.resource_names().map(str::to_owned).collect(),
            step: next.record.since,
        });
    }
}

/// The proof that the device is free, the last look for it ordered by the present step.
pub fn prove_quiet(ctx: &Ctx<'_>, record: &NodeRollout) -> Result<Quiesced, NotQuiet> {
    let proof = Quiesced::prove(ctx.node, record, ctx.settings)?;
    match Steps::present(record).looks(ctx.node).next_back() {
        Some(_) => Ok(proof),
        None => Err(NotQuiet::LookAgain(ctx.now)),
    }
}

/// Takes the transaction back when it is not wanted any more, or the rollout halted.
fn called_off(ctx: &Ctx<'_>, next: &mut Next) -> bool {
    if ctx.still_wanted(&next.record) {
        return false;
    }
    let cannot_return = next.record.cause == Some(Cause::Repair) || ctx.needs_repair(&next.record);
    if cannot_return && next.record.revision.is_some() {
        // KMM has acted on labels that another client changed; the only way is onward, to whatever is wanted now.
        if next.record.goal == ctx.wanted {
            return false;
        }
        next.record.goal.clone_from(&ctx.wanted);
        next.enter(ctx, Phase::Admitted);
        return true;
    }
    next.record.target_revision.clone_from(&ctx.wanted);
    next.announcements.push(ctx.announce(false, "CalledOff", "the node returns on its present revision".into()));
    next.cancel(ctx);
    true
}

/// After a reboot pods may be back and the kernel may be another: begin again. What was verified in the last boot is not
/// verified in this one, so the node is not offered even if the transaction is taken back.
fn reboot(ctx: &Ctx<'_>, next: &mut Next) -> bool {
    let phase = match next.record.phase {
        Phase::Admitted | Phase::Waiting => Phase::Admitted,
        _ => Phase::Closing,
    };
    next.begin_boot(ctx, phase)
}

fn on_timeout(ctx: &Ctx<'_>, next: &mut Next, reason: Reason, message: &str) {
    match ctx.strategy().drain.on_timeout {
        OnTimeout::Force if next.record.phase == Phase::Waiting => close(ctx, next),
        OnTimeout::GiveBack | OnTimeout::Force => {
            next.give_back(ctx, reason, ("", ""), format!("the node was not empty in time: {message}"));
        }
        OnTimeout::Fail => {
            let earlier = next.record.failure.clone().filter(|_| next.record.cause == Some(Cause::Rollback));
            let failure = next.record.goal.clone().map(|revision| cxi_api::node::Failure {
                revision,
                rollout: ctx.rollout.id.clone(),
                phase: next.record.phase,
                message: text::cut(format!("the node was not empty in time: {message}"), text::RECORD),
                at: ctx.now,
            });
            next.give_back(ctx, reason, ("", ""), format!("the node was not empty in time: {message}"));
            next.record.failure = earlier.or(failure);
        }
    }
}

fn policy(ctx: &Ctx<'_>) -> DrainPolicy {
    ctx.strategy().drain.policy
}

/// Pods on the node that hold this driver's NICs, or are bound to the node for one.
pub fn holders<'a>(ctx: &Ctx<'a>) -> Vec<&'a Holder> {
    ctx.node.holders_of(ctx.driver)
}

/// Of these the pods that the kubelet has accepted.
pub fn accepted<'a>(ctx: &Ctx<'a>) -> Vec<&'a Holder> {
    holders(ctx).into_iter().filter(|holder| holder.started).collect()
}

/// What is known of pods that may have a NIC. What excludes them is the last look of this step: it found the node closed, and no pod but
/// those that the kubelet refuses.
pub fn pods(ctx: &Ctx<'_>) -> Pods {
    let Some(record) = ctx.node.rollout() else { return Pods::Possible };
    let refused = |holder: &Holder| is_refused(ctx.node, record, holder);
    if !holders(ctx).into_iter().all(refused) {
        return Pods::Possible;
    }
    let last = Steps::of(record).looks(ctx.node).next_back();
    let free = last.is_some_and(|look| look.is_closed() && look.holders.iter().all(refused));
    if free { Pods::Excluded } else { Pods::Unseen }
}

fn why_not_gone(ctx: &Ctx<'_>, holders: &[&Holder]) -> Obstacle {
    let refused = holders.iter().find_map(|holder| holder.refused.as_ref().map(|refused| (holder, refused)));
    let stuck = holders.iter().find(|holder| holder.ends.is_some_and(|ends| ctx.elapsed(ends) >= OVERSTAY));
    if let Some(stays) = holders.iter().find_map(|holder| disruption::must_stay(&ctx.strategy().drain, holder)) {
        return stays;
    }
    if let Some((holder, refused)) = refused {
        let pod = holder.full_name();
        return match &refused.budget {
            Some(budget) => (
                Reason::DisruptionBudget,
                ("PodDisruptionBudget", budget.clone()),
                format!("PodDisruptionBudget {budget} does not allow the eviction of pod {pod}"),
            ),
            None => (Reason::PodsRunning, ("Pod", pod.clone()), format!("eviction of {pod}: {}", refused.message)),
        };
    }
    if let Some(holder) = stuck {
        let pod = holder.full_name();
        let message =
            format!("pod {pod} does not end although its grace period is over: look at its finalizers and its node");
        return (Reason::StuckTerminating, ("Pod", pod), message);
    }
    (Reason::PodsRunning, ("Pod", holders[0].full_name()), format!("the node waits for {}", describe(holders)))
}

fn describe(holders: &[&Holder]) -> String {
    let mut names: Vec<String> = holders.iter().map(|holder| holder.full_name()).collect();
    names.sort();
    let rest = names.len().saturating_sub(3);
    names.truncate(3);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("pods {}{more}", names.join(", "))
}
