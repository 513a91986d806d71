//! Closing: the device plugin goes, and the kubelet notices.

use cxi_api::{NodeRollout, Phase, Reason, names::Role};

use super::{SILENT, drain, evicting, quiet};
use crate::{
    blocked::Blocked,
    evidence::{looks::Steps, proof::serves},
    transaction::{
        context::Ctx,
        decision::{Decision, Enter},
    },
};

/// Decides about a node that is being closed.
pub fn decide(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Decision {
    if let Some(interrupted) = drain::interrupted(ctx, record) {
        return interrupted;
    }
    let since = record.since;
    let closed = Steps::of(record).looks(ctx.node).next_back().filter(|look| look.is_closed());
    if let Some(look) = closed {
        let accepted = drain::accepted(ctx);
        if !accepted.is_empty() || look.holders.iter().any(|holder| holder.started) {
            // In the same write, where these pods are known already.
            let says = evicting::note(ctx, record, &accepted, &evicting::movable(ctx, &accepted));
            return Decision::Enter(Enter { phase: Phase::Evicting, evidence_since: None, says });
        }
        return if serves(ctx.node) {
            quiet::await_retry_handler(ctx, record, since)
        } else {
            Decision::enter(Phase::Quiesced)
        };
    }
    let resource = ctx.resource();
    if ctx.due(since, ctx.strategy().drain.evict_timeout) {
        let message = format!("the kubelet still offers {resource} although its device plugin was taken away");
        Decision::give_back(Blocked::new(Reason::StillAdvertised, message))
    } else if ctx.pod(Role::DevicePlugin).is_none() && ctx.node.offered == 0 {
        Decision::act(quiet::look(ctx, record))
    } else if ctx.due(since, SILENT) {
        let message = format!("the node waits until the kubelet withdraws {resource}");
        Decision::wait(Blocked::new(Reason::StillAdvertised, message))
    } else {
        Decision::stay()
    }
}
