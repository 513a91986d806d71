//! Unloading: KMM takes the driver out, and a report proves that it is out. From here on nothing can be taken back without a reload.
//! KMM does the work; here its label is moved, with a proof.

use std::time::Duration;

use cxi_api::{NodeRollout, Phase, Reason, Why, transaction::WaitFor};

use super::{
    cleanup::{self, Cleanup},
    quiet, rebooted,
};
use crate::{
    action::Action,
    blocked::Blocked,
    evidence::{
        looks::Steps,
        proof::{NotQuiet, StillLoaded, Unloaded, host_holder},
    },
    transaction::{
        context::Ctx,
        decision::{Decision, Says, Stay},
    },
};

/// How long the node agent may be silent before that is worth a word.
const AGENT_SILENT: Duration = Duration::from_secs(45);

/// What an unload that neither ends nor fails may wait for: the port's start runs in the driver's own thread, and its module waits for it.
const SLOW: &str = "; a driver that is starting a link ends that first, which may take minutes";

/// Decides about a node whose driver is being taken out.
pub fn decide(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Decision {
    if let Some(rebooted) = rebooted(ctx, record) {
        return rebooted;
    }
    if let Some((label, value)) = ctx.node.kmm.versions.iter().next() {
        return remove_label(ctx, record, label, value);
    }
    let Err(obstacle) = Unloaded::prove(ctx.node, &ctx.world.namespace, Steps::present(record)) else {
        return unloaded(ctx, record);
    };
    let mut effects = Vec::new();
    if let StillLoaded::Leftovers(modules) = &obstacle {
        if record.evidence_since.is_some() {
            // The report may be from before KMM was done: one that answers a step that begins now is not.
            return Decision::enter(Phase::Unloading);
        }
        if ctx.is_preinstalled() && record.goal() == ctx.wanted.as_ref() {
            // The host's driver is what is wanted, or to be left alone.
            let loads = record.goal().is_some();
            return if loads { Decision::enter(Phase::Verifying) } else { unloaded(ctx, record) };
        }
        match cleanup::of(ctx, record, modules) {
            Cleanup::UnderWay(more) => effects = more,
            Cleanup::Settled(decision) => return decision,
        }
    }
    let (says, why) = why_still_loaded(ctx, record, &obstacle);
    // Without its agent nothing is known of the node, least of all that its driver failed.
    if ctx.due_on_node(record.since, ctx.settings.unload) && obstacle != StillLoaded::AgentSilent {
        return Decision::Fail(format!("the driver was not unloaded in time: {why}"));
    }
    Decision::Stay(Stay { says, effects })
}

/// The label goes only with the proof. As long as it is there KMM was told nothing, and the transaction can be taken back.
fn remove_label(ctx: &Ctx<'_>, record: &NodeRollout, label: &str, value: &str) -> Decision {
    let at_work = ctx.node.workers.iter().any(|worker| !worker.loads);
    let failed_before = record.why() == Some(Why::Rollback) && record.failure.is_some();
    let loaded = ctx.wanted.as_ref().filter(|wanted| wanted.as_str() == value);
    let reverted = loaded.is_some() && record.from() == loaded;
    if !at_work && !failed_before && reverted && !ctx.still_wanted(record) {
        return Decision::TakeBack(None);
    }
    let obstacle = match quiet::prove(ctx, record) {
        Ok(proof) => {
            return Decision::act([Action::Unload {
                node: ctx.node.name.clone(),
                uid: ctx.node.uid.clone(),
                label: label.to_owned(),
                value: value.to_owned(),
                proof,
            }]);
        }
        Err(obstacle) => obstacle,
    };
    match obstacle {
        NotQuiet::AgentSilent | NotQuiet::LookAgain(_) | NotQuiet::Undecided(_) => {
            let message = "it could not be proved in time that the device is free";
            if !ctx.due_on_node(record.since, ctx.settings.unload) {
                Decision::act(quiet::look(ctx, record))
            } else if at_work {
                Decision::Fail(message.into())
            } else if failed_before {
                Decision::enter(Phase::RollingBack)
            } else {
                let message = format!("{message}: look at the node agent's pod");
                Decision::TakeBack(Some(Blocked::new(Reason::AgentSilent, message)))
            }
        }
        obstacle if at_work => {
            // KMM is taking a driver out already and cannot be stopped. The label that was set by hand waits for the holder.
            let holder = match obstacle {
                NotQuiet::Host(holder) => holder,
                _ => "pods hold the device or it is offered".to_owned(),
            };
            stuck_under_way(ctx, record, &holder).with(quiet::look(ctx, record))
        }
        NotQuiet::Pods(_) | NotQuiet::Host(_) | NotQuiet::Offered | NotQuiet::RetryHandler => {
            Decision::enter(if failed_before { Phase::RollingBack } else { Phase::Closing })
        }
    }
}

fn stuck_under_way(ctx: &Ctx<'_>, record: &NodeRollout, holder: &str) -> Decision {
    let message = format!("KMM cannot unload the driver: {holder}. KMM goes on when the holder ends");
    if ctx.due_on_node(record.since, ctx.settings.unload) {
        Decision::Fail(format!("the driver was not unloaded in time: {message}"))
    } else {
        Decision::wait(stuck(message))
    }
}

fn stuck(message: String) -> Blocked {
    Blocked::new(Reason::UnloadStuck, message).awaits(WaitFor::KmmUnload, "")
}

fn unloaded(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Decision {
    if ctx.is_overtaken(record) {
        // Nothing is loaded: whatever is wanted by now is as near as what was wanted before.
        record.target_revision.clone_from(&ctx.wanted);
        if let Some(transaction) = &mut record.transaction {
            transaction.aim(ctx.wanted.clone());
        }
    }
    match record.goal() {
        None => Decision::Unloaded,
        Some(_) => Decision::enter_with(Phase::Loading, record.since),
    }
}

/// What the record says of it, and the same in words.
fn why_still_loaded(ctx: &Ctx<'_>, record: &NodeRollout, obstacle: &StillLoaded) -> (Says, String) {
    let unloaders = || ctx.node.workers.iter().filter(|worker| !worker.loads);
    let trouble = unloaders().find_map(|worker| worker.trouble.clone());
    let says = |blocked: Blocked| (blocked.message.clone(), Says::This(blocked));
    let (why, says) = match obstacle {
        _ if !ctx.node.ready => says(Blocked::new(Reason::NotReady, "the node is not Ready")),
        StillLoaded::KmmBusy(_) if unloaders().any(|worker| worker.image_missing) => {
            let message = "KMM cannot pull the old image, which it needs to unload: push the image again";
            says(Blocked::new(Reason::OldImageMissing, message))
        }
        StillLoaded::KmmBusy(doing) => match trouble {
            Some(trouble) => {
                let holder = ctx.node.report().and_then(|report| host_holder(ctx.node, report));
                let who = holder.map_or_else(String::new, |holder| format!(": {holder}"));
                let message =
                    format!("KMM cannot unload the driver{who} ({trouble}). KMM goes on when the holder ends");
                says(stuck(message))
            }
            // Between two tries of KMM's worker nothing is better.
            None if record.wait.as_ref().is_some_and(|wait| wait.what == WaitFor::KmmUnload) => {
                let said = record.blocked_by.as_ref().map(|said| said.message.clone());
                (said.unwrap_or_else(|| format!("KMM cannot unload the driver: {doing}")), Says::Same)
            }
            None => (format!("{doing}{SLOW}"), Says::Nothing),
        },
        StillLoaded::Labelled(label) => (format!("label {label} is on the node"), Says::Nothing),
        StillLoaded::AgentSilent => {
            let message = "the node agent has not reported since";
            let silent = ctx.due(record.since, AGENT_SILENT);
            let says = if silent { Says::This(Blocked::new(Reason::AgentSilent, message)) } else { Says::Nothing };
            (message.to_owned(), says)
        }
        StillLoaded::Leftovers(modules) => {
            let message = format!(
                "modules {} are still in the kernel although KMM has unloaded the driver; the operator takes them out",
                modules.join(", ")
            );
            says(Blocked::new(Reason::UnloadStuck, message).awaits(WaitFor::Leftovers, ""))
        }
    };
    (says, why)
}
