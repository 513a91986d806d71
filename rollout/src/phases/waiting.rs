//! Waiting: pods end by themselves, and the node offers only what is in use.

use std::time::Duration;

use cxi_api::{NodeRollout, Reason, strategy::DrainPolicy};

use super::drain;
use crate::{
    blocked::Blocked,
    node::disruption::{self, Allowance},
    transaction::{context::Ctx, decision::Decision},
};

/// How long a node that waits takes pods into account that its kubelet has neither accepted nor refused.
const UNDECIDED: Duration = Duration::from_mins(1);

/// Decides about a node that waits for its pods.
pub fn decide(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Decision {
    if let Some(interrupted) = drain::interrupted(ctx, record) {
        return interrupted;
    }
    let since = record.since;
    let holders = drain::holders(ctx);
    let accepted = holders.iter().any(|holder| holder.started);
    let Some(first) = holders.first() else { return drain::close(record) };
    if !accepted && ctx.due(since, UNDECIDED) {
        return drain::close(record);
    }
    let limits = &ctx.strategy().drain;
    let policy = drain::policy(ctx);
    // The policy may have changed while the node waited; a node that was admitted with `Evict` does not come here.
    if policy == DrainPolicy::Evict || ctx.due(since, limits.wait_timeout) {
        if policy == DrainPolicy::WaitForCompletion {
            return drain::on_timeout(ctx, record, Reason::PodsRunning, &drain::describe(holders));
        }
        let allowance = Allowance::new(&ctx.world.budgets);
        return match disruption::in_the_way(limits, holders, &allowance, ctx.now) {
            None => drain::close(record),
            Some(blocked) if ctx.due(since, limits.wait_timeout + limits.evict_timeout) => {
                drain::on_timeout(ctx, record, blocked.reason, &blocked.message)
            }
            Some(blocked) => Decision::wait(blocked),
        };
    }
    let message = format!("waits for {}", drain::describe(holders));
    Decision::wait(Blocked::new(Reason::PodsRunning, message).on("Pod", first.full_name()))
}
