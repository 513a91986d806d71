//! Nodes that rest: in service on the wanted revision, waiting for admission, or out of service. They are kept as they
//! should be, and what other clients changed on them is noticed.

use std::time::Duration;

use cxi_api::{Advertise, Blocker, NodeRollout, Phase, Reason, RevisionId, node::Cause};

use crate::{
    proof::version_labels,
    request::Request,
    retry_handler,
    step::{Ctx, Next},
    text,
};

/// How long others may take for what they always take a moment for, before that is worth a word.
pub const SILENT: Duration = Duration::from_secs(30);

/// Steps a node that rests.
pub fn step(ctx: &Ctx<'_>, next: &mut Next) {
    // Before a transaction begins: it would take what was verified in an earlier boot for verified in this one. And a
    // node that rests offers what it has: otherwise its record was edited in the middle of a transaction.
    if next.record.revision.is_some() && (evidence_gone(ctx, &next.record) || next.record.advertise != Advertise::All) {
        let revision = next.record.revision.take();
        return reverify(ctx, next, revision);
    }
    if follow(ctx, next) {
        return;
    }
    let wanted = ctx.wanted.clone();
    if next.record.revision.is_some() {
        let up_to_date =
            next.record.revision == wanted && !retry_handler::are_outdated(ctx.world, ctx.node, &next.record);
        let phase = if up_to_date { Phase::UpToDate } else { Phase::Pending };
        if next.record.phase != phase {
            next.enter(ctx, phase);
        }
        if phase == Phase::UpToDate && next.record.failure.is_some() {
            next.record.failure = None;
            next.record.last_error = None;
        }
    } else if next.record.phase == Phase::UpToDate {
        // Written by hand: without a driver no node is up to date.
        next.enter(ctx, Phase::Pending);
    } else if next.record.phase == Phase::Pending
        && let Some(revision) = labelled_revision(ctx).filter(|revision| ctx.revision(revision).is_some())
    {
        // A transaction was taken back before the driver was, and it is not known any more whether the driver runs.
        return reverify(ctx, next, Some(revision));
    }
    if next.record.phase == Phase::UpToDate {
        let request = Request::of(ctx.node);
        // The revision to go back to would be wanted instead.
        if request == Some(Request::Rollback) && next.record.revision.as_ref() == ctx.target() {
            let message = "the node is labelled cxi.hpe.com/upgrade=rollback, and no earlier revision that worked here is left; \
                           remove the label, then set spec.version to the release that you want";
            explain(ctx, next, Reason::NoRollback, ("", ""), message.to_owned());
        } else if let Some(unknown) = request.and_then(Request::fault) {
            explain(ctx, next, Reason::UnknownRequest, ("", ""), unknown);
        } else {
            next.unblock();
        }
    }
}

/// Notes what is wanted and asked for, and begins the transaction that was admitted. True when one begins.
pub fn follow(ctx: &Ctx<'_>, next: &mut Next) -> bool {
    let wanted = ctx.wanted.clone();
    if next.record.target_revision != wanted {
        if wanted.is_none() && !ctx.driver.deleting {
            // A label that comes and goes must not start a drain.
            next.record.retry_after = Some(ctx.now + ctx.settings.unselected);
        } else if next.record.target_revision.is_some() {
            next.record.retry_after = None;
        }
        next.record.target_revision.clone_from(&wanted);
    }
    note_request(ctx, &mut next.record);
    if let Some(entry) =
        ctx.entry.filter(|entry| entry.attempt == next.record.attempt + 1 && ctx.needs_transaction(&next.record))
    {
        begin(ctx, next, entry.attempt);
        return true;
    }
    false
}

/// Starts the transaction that the ledger has admitted.
fn begin(ctx: &Ctx<'_>, next: &mut Next, attempt: i32) {
    let record = &mut next.record;
    record.attempt = attempt;
    // What was being verified is what the node goes back to.
    record.from = record.goal.take();
    record.goal.clone_from(&ctx.wanted);
    let same_driver = record.revision.is_some() && record.revision == record.goal;
    record.retry_after = None;
    record.evictions.clear();
    record.snapshot = None;
    let request = Request::of(ctx.node);
    let asked_back = request == Some(Request::Rollback);
    record.cause = Some(match &record.goal {
        None => Cause::Teardown,
        Some(_) if ctx.needs_repair(record) => Cause::Repair,
        Some(_) if same_driver => Cause::RetryHandler,
        Some(_) if asked_back => Cause::Rollback,
        Some(_) => Cause::Revision,
    });
    if record.cause == Some(Cause::Rollback) {
        // The failure that counts is one of this transaction.
        record.failure = None;
    }
    record.handled_request = request.map(|request| request.to_string());
    let doing = match &record.goal {
        None => "the operator takes the driver off the node".to_owned(),
        Some(_) if record.cause == Some(Cause::RetryHandler) => {
            "the operator replaces the node's retry handler".to_owned()
        }
        Some(goal) => format!("the operator moves the node to revision {goal}"),
    };
    next.enter(ctx, Phase::Admitted);
    next.announcements.push(ctx.announce(false, "Admitted", doing));
}

/// What was verified in an earlier boot, or is not seen any more, has to be verified again before it is offered.
fn reverify(ctx: &Ctx<'_>, next: &mut Next, revision: Option<RevisionId>) {
    next.record.goal = revision;
    next.record.cause = None;
    next.record.from = None;
    next.record.snapshot = None;
    next.record.advertise = Advertise::None;
    next.enter(ctx, Phase::Verifying);
}

fn evidence_gone(ctx: &Ctx<'_>, record: &NodeRollout) -> bool {
    let rebooted = record.boot_id.as_ref().is_some_and(|boot| *boot != ctx.node.boot_id);
    let unloaded = ctx.node.report().is_some_and(|report| !report.missing_modules().is_empty());
    rebooted || unloaded && !ctx.needs_repair(record)
}

/// The revision by whose label KMM loads on this node; none when there is no label, or several.
pub fn labelled_revision(ctx: &Ctx<'_>) -> Option<RevisionId> {
    let mut labels = version_labels(ctx.node, &ctx.world.namespace);
    let (_, value) = labels.next()?;
    if labels.next().is_some() { None } else { value.parse().ok() }
}

/// Whether the host brings the driver of the revision that is wanted.
pub fn is_preinstalled(ctx: &Ctx<'_>) -> bool {
    ctx.driver.spec.source.kind == cxi_api::driver::SourceType::Preinstalled
}

/// A request that was taken away may be made again.
fn note_request(ctx: &Ctx<'_>, record: &mut NodeRollout) {
    if Request::of(ctx.node).is_none() {
        record.handled_request = None;
    }
}

/// Writes down what a node waits for.
pub fn explain(ctx: &Ctx<'_>, next: &mut Next, reason: Reason, object: (&str, &str), message: String) {
    let same = next.record.blocked_by.as_ref().is_some_and(|said| says(said, reason, object.1, &message));
    if !same {
        next.block(ctx, reason, object, message);
    }
}

/// Whether a blocker says this already.
pub fn says(said: &Blocker, reason: Reason, name: &str, message: &str) -> bool {
    said.reason == reason && said.name == name && said.message == text::bounded(message, text::RECORD)
}
