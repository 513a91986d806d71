//! What the phases before an unload have in common: which pods hold the device, what calls a transaction off, and its deadline.

use std::time::Duration;

use cxi_api::{
    Advertise, NodeRollout, Phase, Reason, Timestamp, Why,
    phase::Stage,
    strategy::{DrainPolicy, OnTimeout},
};

use crate::{
    blocked::Blocked,
    node::disruption,
    transaction::{
        context::Ctx,
        decision::{Decision, Enter, GiveBack, Says, Stay},
    },
    world::Holder,
};

/// How long a pod may overstay its grace period before it is called stuck.
pub const OVERSTAY: Duration = Duration::from_secs(30);

/// What a closed node is given beyond the time limits of its pods, for the steps in between.
const SLACK: Duration = Duration::from_mins(2);

/// What comes before anything else in a phase that can be taken back: a reboot, or that the transaction is not wanted any more.
pub fn interrupted(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Option<Decision> {
    if !ctx.node.is_in_boot_of(record) {
        // Pods may be back and the kernel may be another: begin again. What was verified in the last boot is not verified in this one,
        // so the node is not offered even if the transaction is taken back.
        let begun = record.phase.traits().stage == Stage::Begun;
        return Some(Decision::BeginBoot(if begun { Phase::Admitted } else { Phase::Closing }));
    }
    called_off(ctx, record)
}

/// Takes the transaction back when it is not wanted any more, or the rollout halted.
fn called_off(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Option<Decision> {
    if ctx.still_wanted(record) {
        return None;
    }
    let cannot_return = record.why() == Some(Why::Repair) || ctx.needs_repair(record);
    if !cannot_return || record.revision.is_none() {
        return Some(Decision::CallOff);
    }
    // KMM has acted on labels that another client changed; the only way is onward, to whatever is wanted now.
    let transaction = record.transaction.as_mut().filter(|transaction| transaction.goal != ctx.wanted)?;
    transaction.aim(ctx.wanted.clone());
    Some(Decision::enter(Phase::Admitted))
}

/// Closes the node.
pub fn close(record: &mut NodeRollout) -> Decision {
    record.advertise = Advertise::None;
    Decision::enter(Phase::Closing)
}

/// From the moment in which a node is closed to the unload there is one deadline, however often the node goes from one phase to the
/// other and back. After it the node is given back.
pub fn in_time(ctx: &Ctx<'_>, decision: Decision) -> Decision {
    let Some(record) = ctx.node.rollout() else { return decision };
    let (phase, says) = match &decision {
        Decision::Stay(Stay { says: Says::This(blocked), .. }) => (record.phase, Some(blocked.clone())),
        Decision::Stay(_) => (record.phase, None),
        Decision::Enter(Enter { phase, says, .. }) => (*phase, says.clone()),
        _ => return decision,
    };
    let closed_at = record.transaction.as_ref().and_then(|transaction| transaction.closed_at);
    match closed_at.filter(|closed| phase.traits().stage == Stage::Closed && ctx.due(*closed, closed_for(ctx))) {
        None => decision,
        Some(closed) => {
            let said = || record.blocked_by.as_ref().map(|said| Blocked::new(said.reason, said.message.clone()));
            let why = says.or_else(said).unwrap_or_else(|| {
                let message =
                    format!("the node has been closed since {closed:.0}, and the device is not proved to be free");
                Blocked::new(Reason::PodsRunning, message)
            });
            give_back(ctx, why.reason, &why.message)
        }
    }
}

/// How long a node may be closed before its driver is unloaded.
fn closed_for(ctx: &Ctx<'_>) -> Duration {
    let drain = &ctx.strategy().drain;
    drain.evict_timeout.saturating_add(drain.max_grace_period).saturating_add(SLACK)
}

/// What `drain.onTimeout` says of a node that was not empty in time.
pub fn on_timeout(ctx: &Ctx<'_>, record: &mut NodeRollout, reason: Reason, message: &str) -> Decision {
    if ctx.strategy().drain.on_timeout == OnTimeout::Force && record.phase == Phase::Waiting {
        return close(record);
    }
    give_back(ctx, reason, message)
}

fn give_back(ctx: &Ctx<'_>, reason: Reason, message: &str) -> Decision {
    let why = Blocked::new(reason, format!("the node was not empty in time: {message}"));
    let failure = ctx.strategy().drain.on_timeout == OnTimeout::Fail;
    Decision::GiveBack(GiveBack { why, steady: false, failure })
}

pub fn policy(ctx: &Ctx<'_>) -> DrainPolicy {
    ctx.strategy().drain.policy
}

/// Pods on the node that hold this driver's NICs, or are bound to the node for one.
pub fn holders<'a>(ctx: &Ctx<'a>) -> &'a [&'a Holder] {
    &ctx.node.holders
}

/// Of these the pods that the kubelet has accepted.
pub fn accepted<'a>(ctx: &Ctx<'a>) -> Vec<&'a Holder> {
    holders(ctx).iter().copied().filter(|holder| holder.started).collect()
}

/// Why pods are still there.
pub fn why_not_gone(ctx: &Ctx<'_>, holders: &[&Holder]) -> Blocked {
    if let Some(stays) = holders.iter().find_map(|holder| disruption::must_stay(&ctx.strategy().drain, holder)) {
        return stays;
    }
    let refused = holders.iter().find_map(|holder| holder.refused.as_ref().map(|refused| (holder, refused)));
    if let Some((holder, refused)) = refused {
        let pod = holder.full_name();
        if let Some(budget) = &refused.budget {
            let message = format!("PodDisruptionBudget {budget} does not allow the eviction of pod {pod}");
            return Blocked::new(Reason::DisruptionBudget, message).on("PodDisruptionBudget", budget);
        }
        let message = format!("eviction of {pod}: {}", refused.message);
        return Blocked::new(Reason::PodsRunning, message).on("Pod", pod);
    }
    let stuck = holders.iter().find(|holder| holder.ends.is_some_and(|ends| ctx.elapsed(ends) >= OVERSTAY));
    if let Some(holder) = stuck {
        let pod = holder.full_name();
        let message =
            format!("pod {pod} does not end although its grace period is over: look at its finalizers and its node");
        return Blocked::new(Reason::StuckTerminating, message).on("Pod", pod);
    }
    let first = holders.first().map(|holder| holder.full_name()).unwrap_or_default();
    Blocked::new(Reason::PodsRunning, format!("the node waits for {}", describe(holders))).on("Pod", first)
}

/// The names of pods, a few of many.
pub fn describe(holders: &[&Holder]) -> String {
    let mut names: Vec<String> = holders.iter().map(|holder| holder.full_name()).collect();
    names.sort();
    let rest = names.len().saturating_sub(3);
    names.truncate(3);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("pods {}{more}", names.join(", "))
}

/// A time later than another.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}
