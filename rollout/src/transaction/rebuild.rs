//! Records that cannot be what the operator wrote, and records made from nothing but observation.

use cxi_api::{Advertise, NodeRollout, Phase, RevisionId, transaction::Check};

use crate::{evidence::clock, transaction::context::Ctx};

/// Whether a record is not the operator's: it was edited by hand, or it is another CXIDriver's.
pub fn is_needed(ctx: &Ctx<'_>, record: &NodeRollout) -> bool {
    record.driver != ctx.driver.name || is_orphaned(ctx, record) || is_fiction(ctx, record)
}

/// A transaction without an entry in the ledger, or a phase of a transaction without one. Outside a transaction a node is only verified
/// and given back.
fn is_orphaned(ctx: &Ctx<'_>, record: &NodeRollout) -> bool {
    let in_ledger = ctx.entry.is_some_and(|entry| entry.attempt == record.attempt);
    match &record.transaction {
        _ if record.phase.is_settled() => false,
        Some(_) => !in_ledger || record.check.is_some(),
        None => !matches!(record.phase, Phase::Verifying | Phase::Returning),
    }
}

/// A resting record of an unknown revision, while KMM has loaded one that is known.
fn is_fiction(ctx: &Ctx<'_>, record: &NodeRollout) -> bool {
    let known = |revision: &RevisionId| ctx.revision(revision).is_some();
    let written = record.revision.as_ref().is_some_and(|revision| !known(revision));
    record.phase.is_settled() && written && ctx.labelled_revision().is_some_and(|loaded| known(&loaded))
}

/// A record made from nothing but observation: never a later phase than what is seen proves. A node that runs is verified
/// where it stands; it is neither closed nor reloaded for it.
pub fn rebuild(ctx: &Ctx<'_>, old: Option<&NodeRollout>) -> NodeRollout {
    let loaded = ctx.labelled_revision();
    let host_driver = loaded.is_none() && ctx.is_preinstalled();
    let gate = ctx.node.plugin.is_some();
    let (phase, revision, advertise) = match loaded {
        Some(revision) => (Phase::Verifying, Some(revision), if gate { Advertise::All } else { Advertise::None }),
        None if host_driver && gate => (Phase::Verifying, ctx.wanted.clone(), Advertise::All),
        None => (Phase::Pending, None, Advertise::None),
    };
    // No matter who wrote the record before: what a report answered then must not pass for an answer now.
    let since = old.map_or(ctx.now, |old| clock::after(old.since, ctx.now));
    let old = old.filter(|old| old.driver == ctx.driver.name);
    NodeRollout {
        driver: ctx.driver.name.clone(),
        revision: None,
        version: None,
        target_revision: ctx.wanted.clone(),
        phase,
        since,
        evidence_since: None,
        attempt: ctx.entry.map_or(0, |entry| entry.attempt).max(old.map_or(0, |old| old.attempt)),
        advertise,
        transaction: None,
        trial: old.and_then(|old| old.trial.clone()),
        check: revision.map(|revision| Check { revision, snapshot: None }),
        blocked_by: None,
        wait: None,
        boot_id: Some(ctx.node.boot_id.clone()),
        expected: old.and_then(|old| old.expected.clone()),
        previous: old.and_then(|old| old.previous.clone()),
        host_revision: old.and_then(|old| old.host_revision.clone()),
        retry_handlers: old.map(|old| old.retry_handlers.clone()).unwrap_or_default(),
        failure: old.and_then(|old| old.failure.clone()),
        pause: None,
        handled_request: old.and_then(|old| old.handled_request.clone()),
        last_error: old.and_then(|old| old.last_error.clone()),
        history: old.map(|old| old.history.clone()).unwrap_or_default(),
    }
}
