//! The part of a transaction that cannot be taken back: `Unloading` and `Loading`, and `RollingBack`, which prepares the return.
//! KMM does the work; here its labels are moved, each move with a proof.

use std::time::Duration;

use cxi_api::{
    Outcome, Phase, Reason, RevisionId,
    names::{Role, kmm_version_label, kmm_version_ready_label, module_name},
    node::Cause,
};

use crate::{
    action::Action,
    closing,
    looks::Steps,
    proof::{NotQuiet, StillLoaded, Unloaded, hidden_holder, host_holder, version_labels},
    settled,
    step::{Ctx, Next},
    world::{Holder, ImageState, PodState},
};

/// How long modules may still be reported after KMM is done before they are taken for leftovers.
const LINGER: Duration = Duration::from_secs(5);

/// How long a clean-up pod that the kubelet did not run stays before another one is started.
const RETRY: Duration = Duration::from_mins(1);

/// How much later than KMM's first step the label that it follows may be seen.
const ANSWER: Duration = Duration::from_secs(10);

/// Name of the blocker of an unload that KMM has begun and cannot finish.
const HOLDER: &str = "holder";

/// Prepares the return from a failed revision. The node is closed already; that the device is free is proved again.
pub fn rolling_back(ctx: &Ctx<'_>, next: &mut Next) {
    if rebooted(ctx, next) {
        return;
    }
    let since = next.record.since;
    if !closing::accepted(ctx).is_empty() {
        return next.enter(ctx, Phase::Closing);
    }
    match closing::prove_quiet(ctx, &next.record) {
        Ok(_) => {
            next.enter(ctx, Phase::Unloading);
            next.record.evidence_since = Some(since);
        }
        Err(NotQuiet::Host(holder)) => {
            closing::look(ctx, next);
            stuck(ctx, next, Reason::HostHolder, &holder);
        }
        Err(NotQuiet::RetryHandler) => {
            closing::look(ctx, next);
            stuck(ctx, next, Reason::RetryHandlerRunning, "the retry handler has not ended");
        }
        // Pods came while the NICs were offered; they are evicted as before any unload.
        Err(NotQuiet::Pods(_) | NotQuiet::Offered) => next.enter(ctx, Phase::Closing),
        Err(NotQuiet::LookAgain(_)) => closing::look(ctx, next),
        Err(NotQuiet::Undecided(pods)) => {
            closing::look(ctx, next);
            let name = pods.first().map(Holder::full_name).unwrap_or_default();
            let message = format!("the kubelet has neither accepted nor refused pod {name}: see whether it runs");
            settled::explain(ctx, next, Reason::PodsRunning, ("Pod", &name), message);
        }
        Err(NotQuiet::AgentSilent) => {
            closing::look(ctx, next);
            if !ctx.due_on_node(since, ctx.settings.unload) {
                return;
            }
            if let Some(hidden) = ctx.node.report().and_then(|report| hidden_holder(ctx.node, report)) {
                next.quarantine(ctx, &hidden);
            } else {
                // It goes on by itself when the agent is back.
                let message = "the node agent has not reported since the driver failed: look at its pod".to_owned();
                settled::explain(ctx, next, Reason::AgentSilent, ("", ""), message);
            }
        }
    }
}

fn stuck(ctx: &Ctx<'_>, next: &mut Next, reason: Reason, message: &str) {
    if ctx.due_on_node(next.record.since, ctx.settings.unload) {
        next.quarantine(ctx, &format!("cannot go back: {message}"));
    } else {
        settled::explain(ctx, next, reason, ("", ""), message.to_owned());
    }
}

/// Has KMM take the driver out, and waits for the proof that it is out.
pub fn unloading(ctx: &Ctx<'_>, next: &mut Next) {
    if rebooted(ctx, next) {
        return;
    }
    let since = next.record.since;
    let label = version_labels(ctx.node, &ctx.world.namespace).next();
    if let Some((label, value)) = label {
        return remove_label(ctx, next, &label.clone(), &value.clone());
    }
    match Unloaded::prove(ctx.node, &ctx.world.namespace, Steps::present(&next.record)) {
        Ok(_) => unloaded(ctx, next),
        Err(obstacle) => {
            if let StillLoaded::Leftovers(modules) = &obstacle {
                if next.record.evidence_since.is_some() {
                    // The report may be from before KMM was done: one that answers a step that begins now is not.
                    return next.enter(ctx, Phase::Unloading);
                }
                if clean_up(ctx, next, modules) {
                    return;
                }
            }
            let (reason, object, message) = why_still_loaded(ctx, &obstacle);
            // Without its agent nothing is known of the node, least of all that its driver failed.
            let silent = obstacle == StillLoaded::AgentSilent;
            if ctx.due_on_node(since, ctx.settings.unload) && !silent {
                next.fail(ctx, format!("the driver was not unloaded in time: {message}"));
            } else if let Some(reason) = reason {
                settled::explain(ctx, next, reason, ("", &object), message);
            } else {
                next.unblock();
            }
        }
    }
}

/// The label goes only with the proof. As long as it is there KMM was told nothing, and the transaction can be taken back.
fn remove_label(ctx: &Ctx<'_>, next: &mut Next, label: &str, value: &str) {
    let at_work = ctx.node.workers.iter().any(|worker| !worker.loads);
    let failed_before = next.record.cause == Some(Cause::Rollback) && next.record.failure.is_some();
    let reverted = next.record.from == ctx.wanted && ctx.wanted.as_ref().is_some_and(|from| from.as_str() == value);
    if !at_work && !failed_before && reverted && !ctx.still_wanted(&next.record) {
        next.record.target_revision.clone_from(&ctx.wanted);
        next.announcements.push(ctx.announce(false, "CalledOff", "the node returns on its present revision".into()));
        return next.take_back(ctx);
    }
    match closing::prove_quiet(ctx, &next.record) {
        Ok(proof) => next.effects.push(Action::Unload {
            node: ctx.node.name.clone(),
            uid: ctx.node.uid.clone(),
            label: label.to_owned(),
            value: value.to_owned(),
            proof,
        }),
        Err(NotQuiet::AgentSilent | NotQuiet::LookAgain(_) | NotQuiet::Undecided(_)) => {
            closing::look(ctx, next);
            if !ctx.due_on_node(next.record.since, ctx.settings.unload) {
                return;
            }
            if at_work {
                next.fail(ctx, "it could not be proved in time that the device is free".into());
            } else if failed_before {
                next.enter(ctx, Phase::RollingBack);
            } else {
                let message = "it could not be proved in time that the device is free: look at the node agent's pod";
                next.take_back_for(ctx, Reason::AgentSilent, ("", ""), message.to_owned());
            }
        }
        Err(obstacle) if at_work => {
            // KMM is taking a driver out already and cannot be stopped. The label that was set by hand waits for the holder.
            closing::look(ctx, next);
            let holder = match obstacle {
                NotQuiet::Host(holder) => holder,
                _ => "pods hold the device or it is offered".to_owned(),
            };
            stuck_under_way(ctx, next, &holder);
        }
        Err(NotQuiet::Pods(_) | NotQuiet::Host(_) | NotQuiet::Offered | NotQuiet::RetryHandler) => {
            next.enter(ctx, if failed_before { Phase::RollingBack } else { Phase::Closing });
        }
    }
}

fn stuck_under_way(ctx: &Ctx<'_>, next: &mut Next, holder: &str) {
    let message = format!("KMM cannot unload the driver: {holder}. KMM goes on when the holder ends");
    if ctx.due_on_node(next.record.since, ctx.settings.unload) {
        next.fail(ctx, format!("the driver was not unloaded in time: {message}"));
    } else {
        settled::explain(ctx, next, Reason::UnloadStuck, ("", HOLDER), message);
    }
}

fn unloaded(ctx: &Ctx<'_>, next: &mut Next) {
    let since = next.record.since;
    if ctx.is_overtaken(&next.record) {
        // Nothing is loaded: whatever is wanted by now is as near as what was wanted before.
        next.record.goal.clone_from(&ctx.wanted);
        next.record.target_revision.clone_from(&ctx.wanted);
    }
    if next.record.goal.is_none() {
        next.remember(ctx, None, Outcome::Unloaded);
        next.record.cause = None;
        next.record.from = None;
        next.record.revision = None;
        next.record.failure = None;
        next.record.evictions.clear();
        next.enter(ctx, Phase::Pending);
        return;
    }
    next.enter(ctx, Phase::Loading);
    next.record.evidence_since = Some(since);
}

/// Takes out what a failed load (or the host) left in the kernel. True when that settles the step.
fn clean_up(ctx: &Ctx<'_>, next: &mut Next, modules: &[String]) -> bool {
    if settled::is_preinstalled(ctx) && next.record.goal == ctx.wanted {
        // The host's driver is what is wanted, or to be left alone.
        if next.record.goal.is_some() {
            next.enter(ctx, Phase::Verifying);
        } else {
            unloaded(ctx, next);
        }
        return true;
    }
    let names = modules.join(", ");
    let not_run = next.record.blocked_by.as_ref().filter(|blocker| blocker.reason == Reason::PodNotRun);
    match ctx.pod(Role::Cleanup) {
        Some(pod) if pod.deleting => return not_run.is_some(),
        Some(pod) => match &pod.state {
            // A pod that the kubelet did not run says nothing of the modules; another one is started after a pause.
            PodState::Unfinished { why } => {
                if not_run.is_some_and(|blocker| ctx.due(blocker.since, RETRY)) {
                    next.effects.push(Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() });
                }
                let message = format!("the kubelet did not run the pod that takes out modules {names}: {why}");
                settled::explain(ctx, next, Reason::PodNotRun, ("Pod", &pod.name), message);
                return true;
            }
            PodState::Pending { image }
                if image.is_some() || ctx.due_on_node(next.record.since, ctx.settings.unload) =>
            {
                let why = image.as_ref().map_or("the kubelet has not started it", |image| image.words());
                let message = format!("the pod that takes out modules {names} does not run: {why}");
                settled::explain(ctx, next, Reason::PodNotRun, ("Pod", &pod.name), message);
                return true;
            }
            PodState::Failed { message } => {
                next.quarantine(ctx, &format!("modules {names} cannot be taken out: {message}; reboot the node"));
                return true;
            }
            PodState::Succeeded { .. } if ctx.due(next.record.since, LINGER * 4) => {
                next.effects.push(Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() });
            }
            _ => {}
        },
        // The step begins again, time limits and all.
        None if not_run.is_some() => {
            next.enter(ctx, Phase::Unloading);
            return true;
        }
        None => {
            // A report may be a moment older than what KMM did last; the wait starts with a stored time.
            let marked = next.record.blocked_by.as_ref().filter(|blocker| blocker.name == "leftovers");
            match marked {
                Some(blocker) if ctx.due(blocker.since, LINGER) => {
                    next.effects.push(Action::StartCleanup {
                        node: ctx.node.name.clone(),
                        uid: ctx.node.uid.clone(),
                        driver: ctx.driver.name.clone(),
                        modules: modules.to_vec(),
                    });
                }
                _ => {}
            }
        }
    }
    false
}

/// What an unload that neither ends nor fails may wait for: the port's start runs in the driver's own thread, and its module waits for it.
const SLOW: &str = "; a driver that is starting a link ends that first, which may take minutes";

/// Reason (none while all is well), object and sentence.
fn why_still_loaded(ctx: &Ctx<'_>, obstacle: &StillLoaded) -> (Option<Reason>, String, String) {
    let unloaders = || ctx.node.workers.iter().filter(|worker| !worker.loads);
    let trouble = unloaders().find_map(|worker| worker.trouble.clone());
    let image_missing = unloaders().any(|worker| worker.image_missing);
    match obstacle {
        _ if !ctx.node.ready => (Some(Reason::NotReady), String::new(), "the node is not Ready".into()),
        StillLoaded::KmmBusy(_) if image_missing => {
            let message = "KMM cannot pull the old image, which it needs to unload: push the image again".to_owned();
            (Some(Reason::OldImageMissing), String::new(), message)
        }
        StillLoaded::KmmBusy(doing) => match trouble {
            Some(trouble) => {
                let holder = ctx.node.report().and_then(|report| host_holder(ctx.node, report));
                let who = holder.map_or_else(String::new, |holder| format!(": {holder}"));
                let message =
                    format!("KMM cannot unload the driver{who} ({trouble}). KMM goes on when the holder ends");
                (Some(Reason::UnloadStuck), HOLDER.into(), message)
            }
            // Between two tries of KMM's worker nothing is better.
            None => match stuck_before(ctx) {
                Some(message) => (Some(Reason::UnloadStuck), HOLDER.into(), message),
                None => (None, String::new(), format!("{doing}{SLOW}")),
            },
        },
        StillLoaded::Labelled(label) => (None, String::new(), format!("label {label} is on the node")),
        StillLoaded::AgentSilent => {
            let silent = ctx.due(since_of(ctx), Duration::from_secs(45));
            (silent.then_some(Reason::AgentSilent), String::new(), "the node agent has not reported since".into())
        }
        StillLoaded::Leftovers(modules) => {
            let message = format!(
                "modules {} are still in the kernel although KMM has unloaded the driver; the operator takes them out",
                modules.join(", ")
            );
            (Some(Reason::UnloadStuck), "leftovers".into(), message)
        }
    }
}

/// What was said of an unload that is stuck.
fn stuck_before(ctx: &Ctx<'_>) -> Option<String> {
    let blocker = ctx.node.rollout()?.blocked_by.as_ref()?;
    (blocker.reason == Reason::UnloadStuck && blocker.name == HOLDER).then(|| blocker.message.clone())
}

fn since_of(ctx: &Ctx<'_>) -> cxi_api::Timestamp {
    ctx.node.rollout().map_or(ctx.now, |record| record.since)
}

/// Has KMM put the driver in, and waits until KMM says so in every way it has.
pub fn loading(ctx: &Ctx<'_>, next: &mut Next) {
    if rebooted(ctx, next) {
        return;
    }
    let Some(goal) = next.record.goal.clone() else {
        next.enter(ctx, Phase::Unloading);
        return;
    };
    if ctx.revision(&goal).is_none() {
        return without_module(ctx, next, &goal);
    }
    let namespace = &ctx.world.namespace;
    let label = kmm_version_label(namespace, &module_name(&goal));
    let labels: Vec<(&String, &String)> = version_labels(ctx.node, namespace).collect();
    match labels.as_slice() {
        [] => set_label(ctx, next, &goal, label),
        [(key, value)] if **key == label && value.as_str() == goal.as_str() => await_load(ctx, next, &goal),
        // Another client's label: everything goes, then the right one comes.
        _ => {
            next.record.cause = next.record.cause.or(Some(Cause::Repair));
            next.record.evidence_since = None;
            let phase = if labels.is_empty() { Phase::Unloading } else { Phase::Quiesced };
            next.enter(ctx, phase);
        }
    }
}

/// What is to be loaded has no Module: the host brings it, or the spec has changed meanwhile.
fn without_module(ctx: &Ctx<'_>, next: &mut Next, goal: &RevisionId) {
    let message = format!("the node waits for the Module of revision {goal}");
    if ctx.is_of_host(&next.record, goal) {
        next.enter(ctx, Phase::Verifying);
    } else if ctx.is_overtaken(&next.record) {
        // From there it goes on to what is wanted.
        next.enter(ctx, Phase::Unloading);
    } else if ctx.due_on_node(next.record.since, ctx.settings.load) {
        next.fail(ctx, format!("the driver was not loaded in time: {message}"));
    } else {
        settled::explain(ctx, next, Reason::ImageMissing, ("Module", ""), message);
    }
}

fn set_label(ctx: &Ctx<'_>, next: &mut Next, goal: &RevisionId, label: String) {
    match Unloaded::prove(ctx.node, &ctx.world.namespace, Steps::of(&next.record)) {
        Ok(proof) => next.effects.push(Action::Load {
            node: ctx.node.name.clone(),
            uid: ctx.node.uid.clone(),
            label,
            value: goal.to_string(),
            proof,
        }),
        // KMM acts on a label as soon as it is stored; what it does may be seen before the answer to our write is.
        Err(_) if !ctx.due(next.record.since, ANSWER) => {}
        Err(_) => next.enter(ctx, Phase::Unloading),
    }
}

fn await_load(ctx: &Ctx<'_>, next: &mut Next, goal: &RevisionId) {
    if kmm_has_loaded(ctx, goal) {
        next.enter(ctx, Phase::Verifying);
        return;
    }
    let since = next.record.since;
    let kernel = &ctx.node.kernel;
    let loader = ctx.node.workers.iter().find(|worker| worker.loads && worker.module == module_name(goal));
    // KMM may start a loader for the kernel of the last boot, which it replaces a moment later.
    let failing = loader
        .filter(|worker| worker.kernel.as_ref().is_none_or(|of| of == kernel))
        .filter(|worker| worker.restarts >= ctx.settings.load_restarts);
    if let Some(worker) = failing {
        let trouble = worker.trouble.clone().unwrap_or_else(|| "its container keeps ending".into());
        return next.fail(ctx, format!("KMM's worker cannot load revision {goal}: {trouble}"));
    }
    let image = ctx.revision(goal).and_then(|revision| revision.images.get(kernel));
    let missing = image.is_none_or(|image| image.state != ImageState::Exists)
        || loader.is_some_and(|worker| worker.image_missing);
    let (reason, message) = if !ctx.node.ready {
        (Reason::NotReady, "the node is not Ready".to_owned())
    } else if missing {
        (Reason::ImageMissing, format!("the image of revision {goal} for kernel {kernel} is not there"))
    } else {
        (Reason::Loading, format!("KMM has not loaded revision {goal} yet"))
    };
    if ctx.due_on_node(since, ctx.settings.load) {
        next.fail(ctx, format!("the driver was not loaded in time: {message}"));
    } else if reason != Reason::Loading || ctx.due(since, settled::SILENT) {
        settled::explain(ctx, next, reason, ("", ""), message);
    }
}

/// Whether KMM has loaded a revision in this boot. The ready label alone proves nothing: it stays through a reboot.
pub fn kmm_has_loaded(ctx: &Ctx<'_>, revision: &RevisionId) -> bool {
    let node = ctx.node;
    let module = module_name(revision);
    let wanted = node.kmm_wants.iter().find(|wanted| wanted.name == module);
    let has = node.kmm_has.iter().find(|has| has.name == module);
    let (Some(wanted), Some(has)) = (wanted, has) else { return false };
    let ready = kmm_version_ready_label(&ctx.world.namespace, &module);
    has.version.as_deref() == Some(revision.as_str())
        && has.config == wanted.config
        && has.boot_id.as_deref() == Some(node.boot_id.as_str())
        && node.labels.get(&ready).map(String::as_str) == Some(revision.as_str())
        && node.workers.is_empty()
}

/// A reboot takes any driver out and starts the time limits again.
fn rebooted(ctx: &Ctx<'_>, next: &mut Next) -> bool {
    next.begin_boot(ctx, next.record.phase)
}
