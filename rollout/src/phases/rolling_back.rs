//! RollingBack: prepares the return from a failed revision. The node is closed already; that the device is free is proved again.

use cxi_api::{NodeRollout, Phase, Reason};

use super::{drain, quiet, rebooted};
use crate::{
    blocked::Blocked,
    evidence::proof::{NotQuiet, hidden_holder},
    transaction::{context::Ctx, decision::Decision},
    world::Holder,
};

/// Decides about a node whose new revision failed.
pub fn decide(ctx: &Ctx<'_>, record: &NodeRollout) -> Decision {
    if let Some(rebooted) = rebooted(ctx, record) {
        return rebooted;
    }
    let since = record.since;
    if !drain::accepted(ctx).is_empty() {
        return Decision::enter(Phase::Closing);
    }
    let obstacle = match quiet::prove(ctx, record) {
        Ok(_) => return Decision::enter_with(Phase::Unloading, since),
        // Pods came while the NICs were offered; they are evicted as before any unload.
        Err(NotQuiet::Pods(_) | NotQuiet::Offered) => return Decision::enter(Phase::Closing),
        Err(obstacle) => obstacle,
    };
    let decision = match obstacle {
        NotQuiet::Host(holder) => stuck(ctx, record, Reason::HostHolder, &holder),
        NotQuiet::RetryHandler => stuck(ctx, record, Reason::RetryHandlerRunning, "the retry handler has not ended"),
        NotQuiet::Undecided(pods) => {
            let name = pods.first().map(Holder::full_name).unwrap_or_default();
            let message = format!("the kubelet has neither accepted nor refused pod {name}: see whether it runs");
            Decision::wait(Blocked::new(Reason::PodsRunning, message).on("Pod", name))
        }
        NotQuiet::AgentSilent if ctx.due_on_node(since, ctx.settings.unload) => silent(ctx),
        NotQuiet::AgentSilent | NotQuiet::LookAgain(_) | NotQuiet::Pods(_) | NotQuiet::Offered => Decision::stay(),
    };
    decision.with(quiet::look(ctx, record))
}

/// The agent has been silent for long.
fn silent(ctx: &Ctx<'_>) -> Decision {
    if let Some(hidden) = ctx.node.report().and_then(|report| hidden_holder(ctx.node, report)) {
        return Decision::Quarantine(hidden);
    }
    // It goes on by itself when the agent is back.
    let message = "the node agent has not reported since the driver failed: look at its pod";
    Decision::wait(Blocked::new(Reason::AgentSilent, message))
}

fn stuck(ctx: &Ctx<'_>, record: &NodeRollout, reason: Reason, message: &str) -> Decision {
    if ctx.due_on_node(record.since, ctx.settings.unload) {
        Decision::Quarantine(format!("cannot go back: {message}"))
    } else {
        Decision::wait(Blocked::new(reason, message))
    }
}
