//! Evicting: the pods that hold the device are evicted.

use std::time::Duration;

use cxi_api::{
    NodeRollout, Phase,
    node::EvictionRecord,
    strategy::{DrainPolicy, OnTimeout},
};

use super::{drain, quiet};
use crate::{
    action::Action,
    blocked::Blocked,
    evidence::{looks::Steps, proof::serves},
    node::disruption,
    transaction::{
        context::Ctx,
        decision::{Decision, Says, Stay},
    },
    world::Holder,
};

/// Pods that a record names as evicted, at most.
const NOTED: usize = 32;

/// Decides about a node whose pods are evicted. Those that the kubelet has not accepted are left to it: the node offers nothing, so it
/// refuses them.
pub fn decide(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Decision {
    if let Some(interrupted) = drain::interrupted(ctx, record) {
        return interrupted;
    }
    let holders = drain::accepted(ctx);
    if holders.is_empty() {
        return if serves(ctx.node) { last_pod_gone(ctx, record) } else { Decision::enter(Phase::Quiesced) };
    }
    let limits = &ctx.strategy().drain;
    let longest = limits.max_grace_period;
    let closed = record.transaction.as_ref().and_then(|transaction| transaction.closed_at).unwrap_or(record.since);
    let past_limit = ctx.due(closed, limits.evict_timeout);
    let latest = drain::later(closed, limits.evict_timeout.saturating_add(longest));
    let ends = holders.iter().filter_map(|holder| holder.ends).map(|ends| ends.min(latest)).max();
    let timed_out = past_limit && ends.is_none_or(|ends| ctx.due(ends, drain::OVERSTAY));
    let force = limits.on_timeout == OnTimeout::Force;
    let movable = movable(ctx, &holders);
    // Deleted already, with a longer grace period than the node waits.
    let too_long = |holder: &&&Holder| holder.ends.is_some_and(|ends| ends > drain::later(ctx.now, longest));
    let may_go = |holder: &&&Holder| disruption::must_stay(limits, holder).is_none();
    let shortened: Vec<&&Holder> =
        holders.iter().filter(too_long).filter(may_go).filter(|_| force && past_limit).collect();

    // Force deletes what can still be told to go; a pod that was told and stays is beyond it.
    if timed_out && (!force || movable.is_empty() && shortened.is_empty()) {
        let blocked = drain::why_not_gone(ctx, &holders);
        return drain::on_timeout(ctx, record, blocked.reason, &blocked.message);
    }
    let says = note(ctx, record, &holders, &movable).map_or(Says::Same, Says::This);
    let mut effects: Vec<Action> = shortened.iter().map(|holder| force_delete(ctx, holder, longest)).collect();
    for holder in movable {
        let (node, driver, pod) = (ctx.node.name.clone(), ctx.driver.name.clone(), Box::new(holder.clone()));
        if timed_out {
            effects.push(force_delete(ctx, holder, holder.grace.min(longest)));
        } else if holder.refused.as_ref().is_none_or(|refused| refused.retry_at <= ctx.now) {
            effects.push(Action::Evict { node, driver, pod });
        } else if let Some(refused) = &holder.refused {
            ctx.wake_at(refused.retry_at);
        }
    }
    Decision::Stay(Stay { says, effects })
}

/// All pods have ended; now the retry handler may. Its time begins with the look that says so: before, the pods had theirs.
fn last_pod_gone(ctx: &Ctx<'_>, record: &NodeRollout) -> Decision {
    let last = Steps::of(record).looks(ctx.node).next_back();
    let since = last.map_or(ctx.now, |look| look.at);
    quiet::await_retry_handler(ctx, record, since)
}

/// Pods that may be evicted now: they have not been told to end, and nothing protects them.
pub fn movable<'h>(ctx: &Ctx<'_>, holders: &[&'h Holder]) -> Vec<&'h Holder> {
    let limits = &ctx.strategy().drain;
    let evict = drain::policy(ctx) != DrainPolicy::WaitForCompletion || limits.on_timeout == OnTimeout::Force;
    let may_go = |holder: &&&Holder| holder.ends.is_none() && evict && disruption::must_stay(limits, holder).is_none();
    holders.iter().filter(may_go).copied().collect()
}

/// Writes down which of the holders are evicted. What the node waits for then, if there are any.
pub fn note(ctx: &Ctx<'_>, record: &mut NodeRollout, holders: &[&Holder], movable: &[&Holder]) -> Option<Blocked> {
    if holders.is_empty() {
        return None;
    }
    if let Some(transaction) = &mut record.transaction {
        let noted = &mut transaction.evictions;
        for holder in movable {
            if noted.len() < NOTED && !noted.iter().any(|known| known.uid == holder.uid) {
                noted.push(EvictionRecord {
                    namespace: holder.namespace.clone(),
                    name: holder.name.clone(),
                    uid: holder.uid.clone(),
                });
            }
        }
    }
    Some(drain::why_not_gone(ctx, holders))
}

fn force_delete(ctx: &Ctx<'_>, holder: &Holder, grace: Duration) -> Action {
    let (node, driver) = (ctx.node.name.clone(), ctx.driver.name.clone());
    Action::ForceDelete { node, driver, pod: Box::new(holder.clone()), grace }
}
