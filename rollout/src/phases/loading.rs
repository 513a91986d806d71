//! Loading: KMM puts the driver in, and says so in every way it has.

use std::time::Duration;

use cxi_api::{
    NodeRollout, Phase, Reason, RevisionId,
    names::{kmm_version_label, module_name},
};

use super::{SILENT, kmm_has_loaded, rebooted};
use crate::{
    action::Action,
    blocked::Blocked,
    evidence::{looks::Steps, proof::Unloaded},
    transaction::{context::Ctx, decision::Decision},
    world::ImageState,
};

/// How much later than KMM's first step the label that it follows may be seen.
const ANSWER: Duration = Duration::from_secs(10);

/// Decides about a node whose driver is being put in.
pub fn decide(ctx: &Ctx<'_>, record: &NodeRollout) -> Decision {
    if let Some(rebooted) = rebooted(ctx, record) {
        return rebooted;
    }
    let Some(goal) = record.goal() else { return Decision::enter(Phase::Unloading) };
    if ctx.revision(goal).is_none() {
        return without_module(ctx, record, goal);
    }
    let namespace = &ctx.world.namespace;
    let label = kmm_version_label(namespace, &module_name(goal));
    let labels: Vec<(&str, &str)> = ctx.node.kmm.versions.iter().collect();
    match labels.as_slice() {
        [] => set_label(ctx, record, goal, label),
        [(key, value)] if *key == label && *value == goal.as_str() => await_load(ctx, record, goal),
        // Another client's label: everything goes, then the right one comes.
        _ => Decision::enter(Phase::Quiesced),
    }
}

/// What is to be loaded has no Module: the host brings it, or the spec has changed meanwhile.
fn without_module(ctx: &Ctx<'_>, record: &NodeRollout, goal: &RevisionId) -> Decision {
    let message = format!("the node waits for the Module of revision {goal}");
    if ctx.is_of_host(record, goal) {
        Decision::enter(Phase::Verifying)
    } else if ctx.is_overtaken(record) {
        // From there it goes on to what is wanted.
        Decision::enter(Phase::Unloading)
    } else if ctx.due_on_node(record.since, ctx.settings.load) {
        Decision::Fail(format!("the driver was not loaded in time: {message}"))
    } else {
        Decision::wait(Blocked::new(Reason::ImageMissing, message).on("Module", module_name(goal)))
    }
}

fn set_label(ctx: &Ctx<'_>, record: &NodeRollout, goal: &RevisionId, label: String) -> Decision {
    match Unloaded::prove(ctx.node, &ctx.world.namespace, Steps::of(record)) {
        Ok(proof) => Decision::act([Action::Load {
            node: ctx.node.name.clone(),
            uid: ctx.node.uid.clone(),
            label,
            value: goal.to_string(),
            proof,
        }]),
        // KMM acts on a label as soon as it is stored; what it does may be seen before the answer to our write is.
        Err(_) if !ctx.due(record.since, ANSWER) => Decision::stay(),
        Err(_) => Decision::enter(Phase::Unloading),
    }
}

fn await_load(ctx: &Ctx<'_>, record: &NodeRollout, goal: &RevisionId) -> Decision {
    if kmm_has_loaded(ctx, goal) {
        return Decision::enter(Phase::Verifying);
    }
    let since = record.since;
    let kernel = &ctx.node.kernel;
    let loader = ctx.node.workers.iter().find(|worker| worker.loads && worker.module == module_name(goal));
    // KMM may start a loader for the kernel of the last boot, which it replaces a moment later.
    let failing = loader
        .filter(|worker| worker.kernel.as_ref().is_none_or(|of| of == kernel))
        .filter(|worker| worker.restarts >= ctx.settings.load_restarts);
    if let Some(worker) = failing {
        let trouble = worker.trouble.clone().unwrap_or_else(|| "its container keeps ending".into());
        return Decision::Fail(format!("KMM's worker cannot load revision {goal}: {trouble}"));
    }
    let image = ctx.revision(goal).and_then(|revision| revision.images.get(kernel));
    let missing = image.is_none_or(|image| image.state != ImageState::Exists)
        || loader.is_some_and(|worker| worker.image_missing);
    let blocked = if !ctx.node.ready {
        Blocked::new(Reason::NotReady, "the node is not Ready")
    } else if missing {
        let name = image.map_or_else(|| format!("of revision {goal}"), |image| image.reference.clone());
        let message = format!("image {name} (kernel {kernel}) is not there: push it");
        Blocked::new(Reason::ImageMissing, message)
    } else {
        Blocked::new(Reason::Loading, format!("KMM has not loaded revision {goal} yet"))
    };
    if ctx.due_on_node(since, ctx.settings.load) {
        Decision::Fail(format!("the driver was not loaded in time: {}", blocked.message))
    } else if blocked.reason != Reason::Loading || ctx.due(since, SILENT) {
        Decision::wait(blocked)
    } else {
        Decision::stay()
    }
}
