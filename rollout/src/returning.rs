//! Verifying that the right driver runs and its links are up, and offering the NICs again.

use std::{collections::BTreeSet, time::Duration};

use cxi_api::{
    Advertise, NodeReport, NodeRollout, Outcome, Phase, Reason, RevisionId, names::device_plugin_gate, node::Cause,
    node_report::MAX_NICS,
};

use crate::{
    host_driver, kernel_log,
    looks::Steps,
    prefetch::{self, Prefetch},
    proof::{CXI_MODULES, kmm_at_work},
    reload::kmm_has_loaded,
    retry_handler, settled,
    step::{Ctx, Next},
};

/// How long a node is verified before its record says what is missing; at most half of the time limit, so that it is said
/// before the node fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compares what the node runs with what it should run.
pub fn verifying(ctx: &Ctx<'_>, next: &mut Next) {
    let in_transaction = next.record.cause.is_some();
    if !in_transaction && settled::follow(ctx, next) {
        return;
    }
    unproved(next);
    if !ctx.node.is_in_boot_of(&next.record) {
        return verify_anew(ctx, next);
    }
    let Some(goal) = next.record.goal.clone() else {
        next.enter(ctx, Phase::Pending);
        return;
    };
    if !ctx.is_labelled(&goal) {
        // Another client removed or added a version label.
        if in_transaction {
            next.record.evidence_since = None;
            next.enter(ctx, Phase::Quiesced);
        } else {
            next.record.goal = None;
            next.enter(ctx, Phase::Pending);
        }
        return;
    }
    if in_transaction && kmm_has_loaded(ctx, &goal) && ctx.is_overtaken(&next.record) {
        return next.turn_round(ctx);
    }
    let (mut reason, mut message) = match verify(ctx, next, &goal) {
        Verdict::Good => {
            retry_handler::remember(ctx.world, ctx.driver, ctx.node, &mut next.record, &goal);
            if ctx.revision(&goal).is_none() {
                next.record.host_revision = Some(goal.clone());
            }
            next.record.revision = Some(goal);
            next.record.advertise = Advertise::All;
            next.enter(ctx, Phase::Returning);
            return;
        }
        Verdict::Wrong(message) if in_transaction => return next.fail(ctx, message),
        Verdict::Wrong(message) => (Reason::WrongDriver, message),
        Verdict::NotYet(reason, message) => (reason, kernel_log::with_cause(reason, message, ctx.node.report())),
    };
    let mut pod = String::new();
    if reason == Reason::HostDriverMissing
        && let Some(trouble) = host_driver::load(ctx, next)
    {
        (reason, pod, message) = trouble;
    }
    let limit = ctx.strategy().health_check_timeout.0;
    let late = ctx.due_on_node(next.record.since, limit);
    // A pod that the kubelet did not run says nothing of the driver.
    if late && in_transaction && reason != Reason::PodNotRun {
        return next.fail(ctx, format!("the driver was not healthy in time: {message}"));
    }
    if late && next.record.advertise == Advertise::All {
        // A node that was found running and cannot be verified is not offered any longer.
        next.record.advertise = Advertise::None;
    }
    // Most of what is not right at first is right a moment later, and a record is not written for that.
    if late || next.record.blocked_by.is_some() || ctx.due(next.record.since, PATIENCE.min(limit / 2)) {
        let kind = if pod.is_empty() { "" } else { "Pod" };
        settled::explain(ctx, next, reason, (kind, &pod), message);
    }
}

/// What is to be verified is not verified.
fn unproved(next: &mut Next) {
    let revision = next.record.revision.take();
    next.record.goal = next.record.goal.take().or(revision);
}

/// What was proved, or was being proved, counts for nothing any more.
fn verify_anew(ctx: &Ctx<'_>, next: &mut Next) {
    unproved(next);
    next.record.advertise = Advertise::None;
    next.enter(ctx, Phase::Verifying);
}

enum Verdict {
    Good,
    NotYet(Reason, String),
    Wrong(String),
}

fn verify(ctx: &Ctx<'_>, next: &mut Next, goal: &RevisionId) -> Verdict {
    let by_kmm = ctx.revision(goal).is_some();
    if !ctx.node.ready {
        return Verdict::NotYet(Reason::NotReady, "the node is not Ready".into());
    }
    if by_kmm && !kmm_has_loaded(ctx, goal) {
        return Verdict::NotYet(Reason::Loading, format!("KMM has not loaded revision {goal} in this boot"));
    }
    // A driver that KMM is about to take out is not the host's.
    if !by_kmm && let Some(doing) = kmm_at_work(ctx.node, &ctx.world.namespace) {
        return Verdict::NotYet(Reason::UnloadStuck, format!("the host's driver waits for KMM: {doing}"));
    }
    if by_kmm {
        match prefetch::manifest(ctx, next) {
            Prefetch::Done(expected) => prefetch::remember(&mut next.record, expected),
            Prefetch::Running => {
                return Verdict::NotYet(Reason::Loading, "the node waits for the manifest of the driver image".into());
            }
            Prefetch::NotRun(why) => {
                prefetch::retry(ctx, next);
                return Verdict::NotYet(Reason::PodNotRun, why);
            }
            Prefetch::Trouble(trouble) => {
                prefetch::retry(ctx, next);
                return Verdict::NotYet(Reason::ImageMissing, trouble);
            }
        }
    }
    let Some(report) = ctx.node.report().filter(|report| Steps::present(&next.record).answered_by(report)) else {
        return Verdict::NotYet(Reason::AgentSilent, "the node waits for a report of the node agent".into());
    };
    match check_modules(ctx, &next.record, report, goal, by_kmm) {
        Verdict::Good => check_links(ctx, &next.record, report),
        other => other,
    }
}

fn check_modules(ctx: &Ctx<'_>, record: &NodeRollout, report: &NodeReport, goal: &RevisionId, by_kmm: bool) -> Verdict {
    let loaded = report.build_ids();
    if !by_kmm {
        // The second is loaded by a rule of udev's, which a host may lack.
        let missing = report.missing_modules();
        return if missing.is_empty() {
            Verdict::Good
        } else {
            let missing = missing.join(" and ");
            Verdict::NotYet(
                Reason::HostDriverMissing,
                format!("the host has not loaded its driver: {missing} is missing"),
            )
        };
    }
    let expected = record.expected.as_ref().filter(|expected| expected.revision == goal.as_str());
    let build_ids = expected.map(|expected| &expected.build_ids).filter(|ids| !ids.is_empty());
    if let Some(build_ids) = build_ids {
        for (name, build_id) in build_ids {
            match loaded.get(name) {
                None => return Verdict::NotYet(Reason::WrongDriver, format!("module {name} is not loaded")),
                Some(found) if found != build_id => {
                    return Verdict::Wrong(format!(
                        "module {name} has build-id {found}, the image of revision {goal} has {build_id}: another driver is loaded"
                    ));
                }
                Some(_) => {}
            }
        }
        return Verdict::Good;
    }
    if let Some(missing) = CXI_MODULES.iter().find(|name| !loaded.contains_key(**name)) {
        return Verdict::NotYet(Reason::WrongDriver, format!("module {missing} is not loaded"));
    }
    let before = record.snapshot.as_ref().map(|snapshot| &snapshot.build_ids).filter(|ids| !ids.is_empty());
    let another = record.from.as_ref().is_some_and(|from| from != goal);
    let replaced = another && record.cause == Some(Cause::Revision) && ctx.wanted.as_ref() == Some(goal);
    if replaced && before.is_some_and(|before| *before == loaded) {
        return Verdict::Wrong("the loaded modules are still those from before: the new driver is not loaded".into());
    }
    Verdict::Good
}

fn check_links(ctx: &Ctx<'_>, record: &NodeRollout, report: &NodeReport) -> Verdict {
    let present: BTreeSet<&str> = report.devices.iter().map(|nic| nic.pci_address.as_str()).collect();
    let up: BTreeSet<&str> =
        report.devices.iter().filter(|nic| nic.is_linked()).map(|nic| nic.pci_address.as_str()).collect();
    if present.is_empty() {
        return Verdict::NotYet(Reason::LinkDown, "the driver has bound no NIC".into());
    }
    let before = record.snapshot.as_ref().filter(|snapshot| !snapshot.devices.is_empty());
    if let Some(before) = before {
        if let Some(missing) = before.devices.iter().find(|nic| !present.contains(nic.as_str())) {
            return Verdict::NotYet(Reason::LinkDown, format!("NIC {missing} is not back"));
        }
        if let Some(down) = before.links_up.iter().find(|nic| !up.contains(nic.as_str())) {
            return Verdict::NotYet(Reason::LinkDown, format!("the link of NIC {down} is down, it was up before"));
        }
        return Verdict::Good;
    }
    // Nothing to compare with: all links, or after the time limit one (a port may never have had a cable).
    let late = ctx.due_on_node(record.since, ctx.strategy().health_check_timeout.0 / 2);
    if up.len() == present.len() || (late && !up.is_empty()) {
        return Verdict::Good;
    }
    let down: Vec<&str> = present.difference(&up).copied().collect();
    Verdict::NotYet(Reason::LinkDown, format!("the links of {} are down", down.join(", ")))
}

/// Offers the NICs again and waits until the kubelet shows them.
pub fn returning(ctx: &Ctx<'_>, next: &mut Next) {
    if next.record.cause.is_none() && settled::follow(ctx, next) {
        return;
    }
    let same_boot = ctx.node.is_in_boot_of(&next.record);
    let proved = next.record.revision.clone().filter(|revision| {
        same_boot
            && ctx.is_labelled(revision)
            && ctx.node.report().is_none_or(|report| report.missing_modules().is_empty())
    });
    let Some(revision) = proved else {
        return verify_anew(ctx, next);
    };
    next.record.advertise = Advertise::All;
    let expected = expected_allocatable(ctx);
    let gate = device_plugin_gate(&ctx.driver.name);
    let open = !ctx.driver.spec.device_plugin.enabled
        || ctx.node.labels.get(&gate).map(String::as_str) == Some(revision.as_str());
    if open && ctx.allocatable() >= expected {
        return finish(ctx, next, &revision);
    }
    let new_driver = next.record.cause.is_some();
    if ctx.due_on_node(next.record.since, ctx.settings.give_back) {
        let message = format!("the node offers {} of {expected} {}", ctx.allocatable(), ctx.resource());
        // Where the device plugin is not the one that the CXIDriver describes yet, the driver is not to blame.
        if new_driver && next.record.from.is_some() && ctx.driver.plugin_current {
            next.record.revision = None;
            next.fail(ctx, format!("the device plugin did not come back: {message}"));
        } else {
            settled::explain(ctx, next, Reason::NotAdvertised, ("", ""), message);
        }
    }
}

fn finish(ctx: &Ctx<'_>, next: &mut Next, revision: &RevisionId) {
    let record = &mut next.record;
    let result = match record.cause {
        Some(Cause::Rollback) => Some(Outcome::RolledBack),
        Some(_) => Some(Outcome::Verified),
        // Given back (said already), or verified again after a reboot.
        None => None,
    };
    let blocked = record.blocked_by.take();
    let keep = record.cause.is_none() && record.retry_after.is_some();
    record.goal = None;
    record.cause = None;
    record.from = None;
    record.evictions.clear();
    if let Some(result) = result {
        let message = format!("revision {revision} is verified and in service");
        next.announcements.push(ctx.announce(false, &result.to_string(), message));
        next.remember(ctx, Some(revision.clone()), result);
    }
    let up_to_date = next.record.target_revision.as_ref() == Some(revision);
    next.enter(ctx, if up_to_date { Phase::UpToDate } else { Phase::Pending });
    if keep && !up_to_date {
        next.record.blocked_by = blocked;
    }
}

/// What the kubelet should offer: the NICs whose links are up, times the pods that share one.
fn expected_allocatable(ctx: &Ctx<'_>) -> i64 {
    let plugin = &ctx.driver.spec.device_plugin;
    if !plugin.enabled {
        return 0;
    }
    let up = ctx.node.report().map_or(0, |report| report.devices.iter().filter(|nic| nic.is_linked()).count());
    let nics = ctx.node.report().map_or(0, |report| report.devices.len());
    // The report may have been cut: how many there are is not known.
    if nics >= MAX_NICS {
        return 1;
    }
    let each = plugin.ids_of_each(nics);
    i64::try_from(up).unwrap_or(i64::MAX).saturating_mul(each).max(1)
}
