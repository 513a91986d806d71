//! Verifying: the right driver runs, and its links are up.

use std::{collections::BTreeSet, time::Duration};

use cxi_api::{
    Advertise, NodeReport, NodeRollout, Phase, Reason, RevisionId, Why,
    transaction::{Check, WaitFor},
};

use super::{
    host_driver::{self, HostDriver},
    kmm_has_loaded,
    prefetch::{self, Prefetch, Running},
    settled, validating,
};
use crate::{
    action::Action,
    blocked::Blocked,
    evidence::{
        looks::Steps,
        proof::{CXI_MODULES, kmm_at_work},
    },
    node::{drift, kernel_log, retry_handler},
    transaction::{
        context::Ctx,
        decision::{Decision, Says, Stay},
        draft::Draft,
    },
};

/// How long a node is verified before its record says what is missing; at most half of the time limit, so that it is said
/// before the node fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compares what the node runs with what it should run.
pub fn decide(ctx: &Ctx<'_>, record: &mut Draft<'_>) -> Decision {
    let in_transaction = record.transaction.is_some();
    if !in_transaction && let Some(begins) = settled::follow(ctx, record) {
        return begins;
    }
    unproved(record);
    if !ctx.node.is_in_boot_of(record) {
        return anew(record);
    }
    let Some(goal) = record.goal().cloned() else { return Decision::enter(Phase::Pending) };
    let of_host = || ctx.is_preinstalled() || ctx.world.was_of_host(record, &goal);
    if !ctx.is_labelled(&goal) || ctx.revision(&goal).is_none() && !of_host() {
        // Another client removed or added a version label, or wrote a revision that there is not.
        return Decision::enter(if in_transaction { Phase::Quiesced } else { Phase::Pending });
    }
    if in_transaction && kmm_has_loaded(ctx, &goal) && ctx.is_overtaken(record) {
        return Decision::TurnRound;
    }
    let (blocked, effects) = match verify(ctx, record, &goal) {
        // The goal stays what is being proved until the test has passed, too.
        Verdict::Good if validating::is_due(ctx, record) => return Decision::enter(Phase::Validating),
        Verdict::Good => return proved(ctx, record, goal),
        Verdict::Anew => return Decision::enter(Phase::Verifying),
        Verdict::Wrong(message) if in_transaction => return Decision::Fail(message),
        Verdict::Wrong(message) => {
            (Some(Blocked::new(Reason::WrongDriver, message).awaits(WaitFor::RightModules, "")), Vec::new())
        }
        Verdict::NotYet(blocked, effects) => (blocked.map(|blocked| with_cause(ctx, blocked)), effects),
    };
    let limit = ctx.strategy().health_check_timeout;
    let late = ctx.due_on_node(record.since, limit);
    // A pod that the kubelet did not run says nothing of the driver.
    let failure = blocked.as_ref().filter(|blocked| late && in_transaction && blocked.reason != Reason::PodNotRun);
    if let Some(blocked) = failure {
        return Decision::Fail(format!("the driver was not healthy in time: {}", blocked.message));
    }
    if late && record.advertise == Advertise::All {
        // A node that was found running and cannot be verified is not offered any longer.
        record.advertise = Advertise::None;
    }
    // Most of what is not right at first is right a moment later, and a record is not written for that.
    let told = late || record.wait.is_some() || ctx.due(record.since, PATIENCE.min(limit / 2));
    let says = blocked.filter(|_| told).map_or(Says::Same, Says::This);
    Decision::Stay(Stay { says, effects })
}

/// Adds what the node's kernel says, where that may be the cause.
fn with_cause(ctx: &Ctx<'_>, blocked: Blocked) -> Blocked {
    let message = kernel_log::with_cause(blocked.reason, blocked.message, ctx.node.report());
    Blocked { message, ..blocked }
}

/// What is to be verified is not verified.
fn unproved(record: &mut NodeRollout) {
    let Some(revision) = record.revision.take() else { return };
    match &mut record.transaction {
        Some(transaction) => transaction.goal = transaction.goal.take().or(Some(revision)),
        None => {
            record.check.get_or_insert(Check { revision, snapshot: None });
        }
    }
}

/// The revision is proved, and its NICs are offered again.
pub fn proved(ctx: &Ctx<'_>, record: &mut NodeRollout, goal: RevisionId) -> Decision {
    retry_handler::remember(ctx.world, ctx.driver, ctx.node, record, &goal);
    if ctx.revision(&goal).is_none() {
        record.host_revision = Some(goal.clone());
    }
    record.revision = Some(goal);
    record.advertise = Advertise::All;
    Decision::enter(Phase::Returning)
}

/// What was proved, or was being proved, counts for nothing any more.
pub fn anew(record: &mut NodeRollout) -> Decision {
    unproved(record);
    record.advertise = Advertise::None;
    Decision::enter(Phase::Verifying)
}

enum Verdict {
    Good,
    /// Not yet: why, or what the record says already; and what is done about it.
    NotYet(Option<Blocked>, Vec<Action>),
    Wrong(String),
    /// The verification begins again.
    Anew,
}

impl Verdict {
    fn not_yet(reason: Reason, message: impl Into<String>) -> Self {
        Self::NotYet(Some(Blocked::new(reason, message)), Vec::new())
    }
}

fn verify(ctx: &Ctx<'_>, record: &mut NodeRollout, goal: &RevisionId) -> Verdict {
    let by_kmm = ctx.revision(goal).is_some();
    if !ctx.node.ready {
        return Verdict::not_yet(Reason::NotReady, "the node is not Ready");
    }
    if by_kmm && drift::is_being_unloaded(ctx.node, goal) {
        let message =
            format!("KMM unloads revision {goal}, because a label was gone, and waits until the device is free");
        let blocked = Blocked::new(Reason::UnloadStuck, message).awaits(WaitFor::KmmUnload, "");
        return Verdict::NotYet(Some(blocked), Vec::new());
    }
    if by_kmm && !kmm_has_loaded(ctx, goal) {
        return Verdict::not_yet(Reason::Loading, format!("KMM has not loaded revision {goal} in this boot"));
    }
    // A driver that KMM is about to take out is not the host's.
    if !by_kmm && let Some(doing) = kmm_at_work(ctx.node, &ctx.world.namespace) {
        return Verdict::not_yet(Reason::UnloadStuck, format!("the host's driver waits for KMM: {doing}"));
    }
    if by_kmm {
        match prefetch::manifest(ctx, record) {
            Prefetch::Done(expected) => prefetch::remember(record, expected),
            Prefetch::Running(Running { again: true, .. }) => return Verdict::Anew,
            Prefetch::Running(Running { effects, blocked, .. }) => {
                let message = "the node waits for the manifest of the driver image";
                let blocked = blocked.unwrap_or_else(|| Blocked::new(Reason::Loading, message));
                return Verdict::NotYet(Some(blocked), effects);
            }
            Prefetch::NotRun(why) => {
                let blocked = why.map(|why| prefetch::waits(ctx, Blocked::new(Reason::PodNotRun, why)));
                return Verdict::NotYet(blocked, prefetch::retry(ctx, record).into_iter().collect());
            }
            Prefetch::Trouble(trouble) => {
                let blocked = prefetch::waits(ctx, Blocked::new(Reason::ImageMissing, trouble));
                return Verdict::NotYet(Some(blocked), prefetch::retry(ctx, record).into_iter().collect());
            }
        }
    }
    let Some(report) = ctx.node.report().filter(|report| Steps::present(record).answered_by(report)) else {
        return Verdict::not_yet(Reason::AgentSilent, "the node waits for a report of the node agent");
    };
    let modules = if by_kmm { check_modules(ctx, record, report, goal) } else { check_host(ctx, record, report) };
    match modules {
        Verdict::Good => check_links(ctx, record, report),
        other => other,
    }
}

/// Whether the host has loaded its driver.
fn check_host(ctx: &Ctx<'_>, record: &NodeRollout, report: &NodeReport) -> Verdict {
    // The second is loaded by a rule of udev's, which a host may lack.
    let missing = report.missing_modules();
    if missing.is_empty() {
        return Verdict::Good;
    }
    let message = format!("the host has not loaded its driver: {} is missing", missing.join(" and "));
    match host_driver::load(ctx, record) {
        HostDriver::Asked(effects) => Verdict::NotYet(Some(Blocked::new(Reason::HostDriverMissing, message)), effects),
        HostDriver::Trouble(blocked, effects) => Verdict::NotYet(Some(blocked), effects),
        HostDriver::Again => Verdict::Anew,
    }
}

fn check_modules(ctx: &Ctx<'_>, record: &NodeRollout, report: &NodeReport, goal: &RevisionId) -> Verdict {
    let loaded = report.build_ids();
    let wrong = |name: &str| {
        let blocked = Blocked::new(Reason::WrongDriver, format!("module {name} is not loaded"));
        Verdict::NotYet(Some(blocked.awaits(WaitFor::RightModules, "")), Vec::new())
    };
    let expected = record.expected.as_ref().filter(|expected| expected.revision == goal.as_str());
    let build_ids = expected.map(|expected| &expected.build_ids).filter(|ids| !ids.is_empty());
    if let Some(build_ids) = build_ids {
        for (name, build_id) in build_ids {
            match loaded.get(name) {
                None => return wrong(name),
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
        return wrong(missing);
    }
    let before = record.snapshot().map(|snapshot| &snapshot.build_ids).filter(|ids| !ids.is_empty());
    let another = record.from().is_some_and(|from| from != goal);
    let replaced = another && record.why() == Some(Why::Wanted) && ctx.wanted.as_ref() == Some(goal);
    if replaced && before.is_some_and(|before| *before == loaded) {
        return Verdict::Wrong("the loaded modules are still those from before: the new driver is not loaded".into());
    }
    Verdict::Good
}

fn check_links(ctx: &Ctx<'_>, record: &NodeRollout, report: &NodeReport) -> Verdict {
    let down = |message: String| Verdict::not_yet(Reason::LinkDown, message);
    let present: BTreeSet<&str> = report.devices.iter().map(|nic| nic.pci_address.as_str()).collect();
    let up: BTreeSet<&str> =
        report.devices.iter().filter(|nic| nic.is_linked()).map(|nic| nic.pci_address.as_str()).collect();
    if present.is_empty() {
        return down("the driver has bound no NIC".into());
    }
    let before = record.snapshot().filter(|snapshot| !snapshot.devices.is_empty());
    if let Some(before) = before {
        if let Some(missing) = before.devices.iter().find(|nic| !present.contains(nic.as_str())) {
            return down(format!("NIC {missing} is not back"));
        }
        if let Some(nic) = before.links_up.iter().find(|nic| !up.contains(nic.as_str())) {
            return down(format!("the link of NIC {nic} is down, it was up before"));
        }
        return Verdict::Good;
    }
    // Nothing to compare with: all links, or after the time limit one (a port may never have had a cable).
    let late = ctx.due_on_node(record.since, ctx.strategy().health_check_timeout / 2);
    if up.len() == present.len() || (late && !up.is_empty()) {
        return Verdict::Good;
    }
    let without: Vec<&str> = present.difference(&up).copied().collect();
    down(format!("the links of {} are down", without.join(", ")))
}
