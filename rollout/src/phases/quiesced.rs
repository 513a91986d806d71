//! Quiesced: two looks without a cache prove that the device is free.

use std::time::Duration;

use cxi_api::{NodeRollout, Phase, Reason, transaction::WaitFor};

use super::{drain, quiet};
use crate::{
    blocked::Blocked,
    evidence::{
        looks::Steps,
        proof::{NotQuiet, Quiesced, hidden_holder, host_holder, serves},
    },
    transaction::{
        context::Ctx,
        decision::{Decision, Says, Stay},
    },
};

/// How long a report may answer nothing before that is an answer of its own: then the agent cannot tell who holds the device.
const NO_ANSWER: Duration = Duration::from_secs(5);

/// How long the node agent may be silent before that is worth a word.
const AGENT_SILENT: Duration = Duration::from_secs(45);

/// Decides about a node on which nothing seems to hold the device.
pub fn decide(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Decision {
    if let Some(interrupted) = drain::interrupted(ctx, record) {
        return interrupted;
    }
    let since = record.since;
    if !drain::accepted(ctx).is_empty() {
        return Decision::enter(Phase::Evicting);
    }
    let awaited = record.wait.as_ref().is_some_and(|wait| wait.what == WaitFor::RetryHandler);
    if awaited && !serves(ctx.node) {
        // What was seen and reported while the retry handler ended says nothing.
        return Decision::enter(Phase::Quiesced);
    }
    match Quiesced::prove(ctx.node, record, ctx.settings) {
        // The retry handler is gone; another one comes when the node returns.
        Ok(_) if !ctx.work_left(record).driver => Decision::enter(Phase::Verifying),
        Ok(_) => {
            let verified = record.revision.take();
            if let Some(transaction) = &mut record.transaction {
                transaction.from = verified.or(transaction.from.take());
            }
            Decision::enter_with(Phase::Unloading, since)
        }
        Err(NotQuiet::Pods(_)) => Decision::enter(Phase::Evicting),
        Err(NotQuiet::Offered) => Decision::enter(Phase::Closing),
        Err(NotQuiet::RetryHandler) => quiet::await_retry_handler(ctx, record, since),
        Err(NotQuiet::Host(holder)) => host_held(ctx, record, &holder),
        Err(NotQuiet::Undecided(pods)) => quiet::await_kubelet(ctx, record, &pods),
        Err(NotQuiet::AgentSilent | NotQuiet::LookAgain(_)) => await_quiet(ctx, record),
    }
}

/// A process outside Kubernetes has the device: the node waits a little, then it is given back.
fn host_held(ctx: &Ctx<'_>, record: &NodeRollout, holder: &str) -> Decision {
    let message = format!("{holder}: end it, then the operator tries the node again");
    let blocked = Blocked::new(Reason::HostHolder, message).on("Process", holder);
    if ctx.due(record.since, ctx.settings.host_holder) {
        Decision::give_back(blocked)
    } else {
        Decision::wait(blocked).with(quiet::look(ctx, record))
    }
}

fn await_quiet(ctx: &Ctx<'_>, record: &NodeRollout) -> Decision {
    let since = record.since;
    let report = ctx.node.report();
    let answered = report.filter(|report| Steps::of(record).answered_by(report));
    if answered.is_none()
        && let Some(holder) = report.and_then(|report| hidden_holder(ctx.node, report))
        && ctx.due(since, NO_ANSWER)
    {
        return host_held(ctx, record, &holder);
    }
    if ctx.due(since, ctx.strategy().drain.evict_timeout) {
        let message = "the node agent did not report in time that the device is free";
        return Decision::give_back(Blocked::new(Reason::AgentSilent, message));
    }
    let Some(report) = answered else {
        let message = "the node agent has not reported since the node was closed";
        let silent = ctx.due(since, AGENT_SILENT);
        return if silent { Decision::wait(Blocked::new(Reason::AgentSilent, message)) } else { Decision::stay() };
    };
    if let Some(holder) = host_holder(ctx.node, report) {
        return host_held(ctx, record, &holder);
    }
    Decision::Stay(Stay { says: Says::Nothing, effects: quiet::look(ctx, record).into_iter().collect() })
}
