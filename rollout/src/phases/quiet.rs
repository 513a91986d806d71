//! Looks without a cache, and what the proof that the device is free still waits for.

use cxi_api::{NodeRollout, Phase, Reason, Timestamp, transaction::WaitFor};

use super::{SILENT, drain};
use crate::{
    action::Action,
    blocked::Blocked,
    evidence::{
        looks::Steps,
        proof::{NotQuiet, Quiesced},
    },
    node::gates::Pods,
    transaction::{
        context::Ctx,
        decision::{Decision, waits_for},
    },
    world::{Holder, Look},
};

/// Pods were bound to the node before it was closed, and its kubelet says nothing of them. Their time begins when the record says so.
pub fn await_kubelet(ctx: &Ctx<'_>, record: &NodeRollout, pods: &[Holder]) -> Decision {
    let name = pods.first().map(Holder::full_name).unwrap_or_default();
    let names = drain::describe(&pods.iter().collect::<Vec<_>>());
    let wait = waits_for(record.wait.as_ref(), WaitFor::Kubelet, &names);
    let message = format!("the kubelet has neither accepted nor refused {names}: see whether it runs");
    let blocked = Blocked::new(Reason::PodsRunning, message).on("Pod", name);
    if wait.is_some_and(|wait| ctx.due(wait.since, ctx.strategy().drain.evict_timeout)) {
        Decision::give_back(blocked)
    } else {
        Decision::wait(blocked.awaits(WaitFor::Kubelet, names)).with(look(ctx, record))
    }
}

/// The retry handler ends once its gate is closed, and that is closed when a look shows that no pod needs it any more.
pub fn await_retry_handler(ctx: &Ctx<'_>, record: &NodeRollout, since: Timestamp) -> Decision {
    if Pods::on(ctx.node) != Pods::Excluded {
        let closed: Vec<&Look> = Steps::of(record).looks(ctx.node).filter(|look| look.is_closed()).collect();
        // Two looks see the same pod: the kubelet had time to refuse it.
        let both = |holder: &&Holder| closed.len() > 1 && closed.iter().all(|look| look.sees(&holder.uid));
        let undecided = closed.last().map(|look| look.holders.iter().filter(both).cloned().collect::<Vec<_>>());
        return match undecided.filter(|pods| !pods.is_empty()) {
            Some(pods) => await_kubelet(ctx, record, &pods),
            None => Decision::act(look(ctx, record)),
        };
    }
    if ctx.due(since, ctx.strategy().drain.evict_timeout) {
        let message = "the retry handler did not end in time: look at its pod";
        Decision::give_back(Blocked::new(Reason::RetryHandlerRunning, message))
    } else if record.phase == Phase::Quiesced || ctx.due(since, SILENT) {
        // Elsewhere a word is only worth its write when it takes long.
        let message = "the node waits until the retry handler has ended";
        Decision::wait(Blocked::new(Reason::RetryHandlerRunning, message).awaits(WaitFor::RetryHandler, ""))
    } else {
        Decision::stay()
    }
}

/// Asks for an uncached look: the first of a step at once, further ones not more often than makes sense.
pub fn look(ctx: &Ctx<'_>, record: &NodeRollout) -> Option<Action> {
    let last = Steps::present(record).looks(ctx.node).next_back();
    last.is_none_or(|look| ctx.due(look.at, ctx.settings.look_gap)).then(|| Action::Look {
        node: ctx.node.name.clone(),
        resources: ctx.driver.resource_names().map(str::to_owned).collect(),
        step: record.since,
    })
}

/// The proof that the device is free, the last look for it ordered by the present step.
pub fn prove(ctx: &Ctx<'_>, record: &NodeRollout) -> Result<Quiesced, NotQuiet> {
    let proof = Quiesced::prove(ctx.node, record, ctx.settings)?;
    match Steps::present(record).looks(ctx.node).next_back() {
        Some(_) => Ok(proof),
        None => Err(NotQuiet::LookAgain(ctx.now)),
    }
}
