//! Nodes that rest: in service on the wanted revision, waiting for admission, or out of service. They are kept as they
//! should be, and what other clients changed on them is noticed.

use cxi_api::{Advertise, NodeRollout, Phase, Reason, RevisionId, node::Pause, transaction::Check};

use crate::{
    blocked::Blocked,
    node::{request::Request, retry_handler},
    transaction::{
        context::Ctx,
        decision::{Decision, Says, Stay},
        draft::Draft,
    },
};

/// Decides about a node that rests.
pub fn decide(ctx: &Ctx<'_>, record: &mut Draft<'_>) -> Decision {
    // Written by hand: nothing is under way on a node that rests.
    if record.transaction.is_some() || record.check.is_some() {
        (record.transaction, record.check) = (None, None);
    }
    // Before a transaction begins: it would take what was verified in an earlier boot for verified in this one. And a
    // node that rests offers what it has: otherwise its record was edited in the middle of a transaction.
    if record.revision.is_some() && (evidence_gone(ctx, record) || record.advertise != Advertise::All) {
        let revision = record.revision.take();
        return reverify(record, revision);
    }
    forget_trial(ctx, record);
    if let Some(begins) = follow(ctx, record) {
        return begins;
    }
    let phase = match &record.revision {
        Some(_) if record.revision == ctx.wanted && !retry_handler::are_outdated(ctx.world, ctx.node, record) => {
            Phase::UpToDate
        }
        Some(_) => Phase::Pending,
        // Written by hand: without a driver no node is up to date.
        None if record.phase == Phase::UpToDate => Phase::Pending,
        None => {
            let loaded = ctx.labelled_revision().filter(|revision| ctx.revision(revision).is_some());
            if record.phase == Phase::Pending && loaded.is_some() {
                // A transaction was taken back before the driver was, and it is not known any more whether the driver runs.
                return reverify(record, loaded);
            }
            record.phase
        }
    };
    if phase == Phase::UpToDate && record.failure.is_some() {
        record.failure = None;
        record.last_error = None;
    }
    if phase != record.phase {
        return Decision::enter(phase);
    }
    if phase == Phase::UpToDate {
        return Decision::Stay(Stay { says: up_to_date(ctx, record), effects: Vec::new() });
    }
    Decision::stay()
}

/// What the node showed for a CXIPreflight that is gone is of no use any more.
fn forget_trial(ctx: &Ctx<'_>, record: &mut Draft<'_>) {
    let Some(trial) = &record.trial else { return };
    let known = ctx.world.preflights.iter().any(|preflight| preflight.uid == trial.preflight);
    if !known && !ctx.world.unreadable_preflights.contains(&trial.preflight) {
        record.trial = None;
    }
}

/// What an administrator is told of a node that is as it should be.
fn up_to_date(ctx: &Ctx<'_>, record: &NodeRollout) -> Says {
    let request = ctx.node.ours.request;
    if let Some(trial) = ctx.trial.filter(|_| request == Some(Request::Rollback)) {
        let message = format!(
            "the node is labelled cxi.hpe.com/upgrade=rollback, and stays on its release for CXIPreflight {name}: delete that object, \
             then the node goes back",
            name = trial.preflight.name
        );
        return Says::This(Blocked::new(Reason::Preflight, message));
    }
    // The revision to go back to would be wanted instead.
    if request == Some(Request::Rollback) && record.revision.as_ref() == Some(ctx.target()) {
        let message = "the node is labelled cxi.hpe.com/upgrade=rollback, and no earlier revision that worked here is left; \
                       remove the label, then set spec.version to the release that you want";
        return Says::This(Blocked::new(Reason::NoRollback, message));
    }
    match request.and_then(Request::fault) {
        Some(unknown) => Says::This(Blocked::new(Reason::UnknownRequest, unknown)),
        None => Says::Nothing,
    }
}

/// Notes what is wanted and asked for, and begins the transaction that was admitted, if one was.
pub fn follow(ctx: &Ctx<'_>, record: &mut Draft<'_>) -> Option<Decision> {
    if record.target_revision != ctx.wanted {
        if ctx.wanted.is_none() && !ctx.driver.deleting {
            // A label that comes and goes must not start a drain.
            record.pause = Some(Pause { until: ctx.now + ctx.settings.unselected, because: None });
        } else if record.target_revision.is_some() {
            record.pause = None;
        }
        record.target_revision.clone_from(&ctx.wanted);
    }
    // A request that was taken away may be made again.
    if ctx.node.ours.request.is_none() && record.handled_request.is_some() {
        record.handled_request = None;
    }
    let entry = ctx.entry.filter(|entry| entry.attempt == record.next_attempt() && ctx.needs_transaction(record))?;
    Some(Decision::Begin(entry.attempt))
}

/// What was verified in an earlier boot, or is not seen any more, has to be verified again before it is offered.
fn reverify(record: &mut NodeRollout, revision: Option<RevisionId>) -> Decision {
    record.check = revision.map(|revision| Check { revision, snapshot: None });
    record.advertise = Advertise::None;
    Decision::enter(Phase::Verifying)
}

fn evidence_gone(ctx: &Ctx<'_>, record: &NodeRollout) -> bool {
    let rebooted = !ctx.node.is_in_boot_of(record);
    let unloaded = ctx.node.report().is_some_and(|report| !report.missing_modules().is_empty());
    rebooted || unloaded && !ctx.needs_repair(record)
}
