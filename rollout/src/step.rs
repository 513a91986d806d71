//! One step of one node: from what is written in its record and what is observed, either the next record or the effects that
//! the present record asks for. Never both: the intent is written first, and its effects follow once it is.

use std::{cell::Cell, time::Duration};

use cxi_api::{
    Advertise, Blocker, NodeRollout, Outcome, Phase, Reason, RevisionId, Timestamp,
    driver_status::{InFlight, Rollout},
    node::{Cause, Failure, HistoryEntry},
    strategy::UpdateStrategy,
};

use crate::{
    action::{Action, Announcement},
    clock, closing, drift, gates,
    proof::version_labels,
    reload,
    request::Request,
    retry_handler, returning,
    settings::Settings,
    settled, text,
    view::View,
    world::{Driver, ImageState, Node, OwnPod, Revision},
};

/// How long a node that is not Ready may be so before a time limit that runs meanwhile counts.
pub const NODE_LOST: Duration = Duration::from_mins(30);

/// Everything that a step may look at.
pub struct Ctx<'a> {
    pub world: &'a View<'a>,
    pub driver: &'a Driver,
    pub node: &'a Node,
    pub settings: &'a Settings,
    pub now: Timestamp,
    /// The rollout's ledger as stored.
    pub rollout: &'a Rollout,
    /// This node's entry in it.
    pub entry: Option<&'a InFlight>,
    /// Revision that this node should be on; `None` is no driver.
    pub wanted: Option<RevisionId>,
    /// When something has to be looked at again.
    pub wake: &'a Cell<Option<Timestamp>>,
}

/// What comes of a step.
#[derive(Debug, Default)]
pub struct Step {
    /// The next record, if it is to change.
    pub rollout: Option<NodeRollout>,
    /// Effects of the present record.
    pub effects: Vec<Action>,
    /// Events that belong to the change of the record.
    pub announcements: Vec<Announcement>,
}

impl<'a> Ctx<'a> {
    pub fn strategy(&self) -> &'a UpdateStrategy {
        &self.driver.spec.update_strategy
    }

    /// The name under which NICs are offered.
    pub fn resource(&self) -> &'a str {
        &self.driver.spec.device_plugin.resource_name
    }

    /// How much the kubelet offers under this name.
    pub fn allocatable(&self) -> i64 {
        self.node.allocatable.get(self.resource()).copied().unwrap_or(0)
    }

    /// Time since `since`; zero when the clock went backwards, so that no timer fires early.
    pub fn elapsed(&self, since: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(since)).unwrap_or(Duration::ZERO)
    }

    /// Whether `limit` has passed since `since`; asks to be woken when it will have.
    pub fn due(&self, since: Timestamp, limit: Duration) -> bool {
        let due = self.elapsed(since) >= limit;
        if !due {
            self.wake_at(since.checked_add(limit).unwrap_or(Timestamp::MAX));
        }
        due
    }

    /// Like [`Self::due`], with patience for a node that is not Ready at the moment.
    pub fn due_on_node(&self, since: Timestamp, limit: Duration) -> bool {
        self.due(since, if self.node.ready { limit } else { limit + NODE_LOST })
    }

    pub fn wake_at(&self, at: Timestamp) {
        let sooner = self.wake.get().is_none_or(|wake| at < wake);
        if sooner {
            self.wake.set(Some(at));
        }
    }

    /// The revision that the spec describes.
    pub fn target(&self) -> Option<&RevisionId> {
        self.world.target(&self.driver.name).map(|(_, target)| target)
    }

    /// The Module of a revision; none for a revision that the host brings.
    pub fn revision(&self, id: &RevisionId) -> Option<&'a Revision> {
        self.world.revision(&self.driver.name, id)
    }

    /// Whether a revision stands for the driver that the host brings: what the spec describes now, or what it described when the
    /// node was verified with it.
    pub fn is_of_host(&self, record: &NodeRollout, id: &RevisionId) -> bool {
        let described = settled::is_preinstalled(self) && self.wanted.as_ref() == Some(id);
        described && self.revision(id).is_none() || self.world.was_of_host(record, id)
    }

    /// Whether the only version label of KMM on the node is that of `goal`; of a driver that the host brings, that there is none.
    pub fn is_labelled(&self, goal: &RevisionId) -> bool {
        let labels: Vec<&String> = version_labels(self.node, &self.world.namespace).map(|(_, value)| value).collect();
        if self.revision(goal).is_none() {
            return labels.is_empty();
        }
        matches!(labels.as_slice(), [value] if value.as_str() == goal.as_str())
    }

    pub fn pod(&self, role: cxi_api::names::Role) -> Option<&'a OwnPod> {
        self.node.pods.iter().find(|pod| pod.role == role && pod.driver == self.driver.name)
    }

    /// What of the operands the gates depend on.
    pub fn operands(&self) -> gates::Operands {
        let spec = &self.driver.spec;
        gates::Operands {
            plugin: spec.device_plugin.enabled,
            retry_handler: spec.retry_handler.runs_on_nodes(),
            pods: closing::pods(self),
        }
    }

    /// See [`drift::needs_repair`].
    pub fn needs_repair(&self, record: &NodeRollout) -> bool {
        drift::needs_repair(self.world, self.node, record)
    }

    /// See [`drift::needs_transaction`].
    pub fn needs_transaction(&self, record: &NodeRollout) -> bool {
        drift::needs_transaction(self.world, self.node, record, self.wanted.as_ref())
    }

    /// Whether the present transaction's target has not changed and nothing calls it off.
    pub fn still_wanted(&self, record: &NodeRollout) -> bool {
        let asked = Request::Retry.is_handled(record);
        let forward = matches!(record.cause, Some(Cause::Revision | Cause::RetryHandler));
        let halted = self.rollout.halted.is_some() && forward && !asked;
        // The request was taken back before anything was taken away.
        let untouched = matches!(record.phase, Phase::Admitted | Phase::Waiting);
        let idle =
            record.cause == Some(Cause::RetryHandler) && untouched && !retry_handler::differ(self.driver, self.node);
        // A node that goes back from what is wanted does so until something else is wanted.
        let failed = record.failure.as_ref().filter(|_| record.cause == Some(Cause::Rollback));
        let goes_back = failed.is_some_and(|failure| {
            Some(&failure.revision) == self.wanted.as_ref() || !self.can_be_had(self.wanted.as_ref())
        });
        (record.goal == self.wanted || goes_back) && !halted && !idle
    }

    /// Whether a transaction brings in what is no longer wanted, while what is wanted can be had. A rollback is not
    /// judged by what is wanted.
    pub fn is_overtaken(&self, record: &NodeRollout) -> bool {
        let forward = record.cause != Some(Cause::Rollback);
        forward && record.goal != self.wanted && self.can_be_had(self.wanted.as_ref())
    }

    /// Whether a revision can be loaded on this node, as far as KMM knows; nothing and the host's driver always can.
    pub fn can_be_had(&self, revision: Option<&RevisionId>) -> bool {
        let Some(id) = revision else { return true };
        let image = self.revision(id).and_then(|revision| revision.images.get(&self.node.kernel));
        settled::is_preinstalled(self) || image.is_some_and(|image| image.state == ImageState::Exists)
    }

    pub fn announce(&self, warning: bool, reason: &str, message: String) -> Announcement {
        Announcement {
            driver: self.driver.name.clone(),
            node: Some(self.node.name.clone()),
            warning,
            reason: reason.into(),
            message,
        }
    }
}

/// Steps a node. `record` is its stored place in the rollout; without one it is rebuilt from observation.
pub fn step(ctx: &Ctx<'_>) -> Step {
    let Some(record) = ctx.node.rollout() else {
        return Step { rollout: Some(rebuild(ctx, None)), ..Step::default() };
    };
    if record.driver != ctx.driver.name || is_orphaned(ctx, record) || is_fiction(ctx, record) {
        return Step { rollout: Some(rebuild(ctx, Some(record))), ..Step::default() };
    }
    if let Some(put_right) = clock::put_right(record, ctx.now, ctx.settings) {
        return Step { rollout: Some(put_right), ..Step::default() };
    }
    let mut next = Next { record: record.clone(), effects: Vec::new(), announcements: Vec::new() };
    let was_away = record.blocked_by.as_ref().is_some_and(|blocker| blocker.reason == Reason::NotReady);
    if was_away && ctx.node.is_in_boot_of(record) && ctx.node.ready && awaits_node(record.phase) {
        next.enter(ctx, record.phase);
        return Step { rollout: Some(next.record), ..Step::default() };
    }
    match record.phase {
        Phase::UpToDate | Phase::Pending | Phase::Quarantined => settled::step(ctx, &mut next),
        Phase::Admitted => closing::admitted(ctx, &mut next),
        Phase::Waiting => closing::waiting(ctx, &mut next),
        Phase::Closing => closing::closing(ctx, &mut next),
        Phase::Evicting => closing::evicting(ctx, &mut next),
        Phase::Quiesced => closing::quiesced(ctx, &mut next),
        Phase::RollingBack => reload::rolling_back(ctx, &mut next),
        Phase::Unloading => reload::unloading(ctx, &mut next),
        Phase::Loading => reload::loading(ctx, &mut next),
        Phase::Verifying => returning::verifying(ctx, &mut next),
        Phase::Returning => returning::returning(ctx, &mut next),
    }
    closing::deadline(ctx, &mut next);
    not_ready(ctx, record, &mut next);
    next.record.version = gates::release(ctx.world, record, &next.record);
    if next.record != *record {
        return Step { rollout: Some(next.record), effects: Vec::new(), announcements: next.announcements };
    }
    let wanted = gates::wanted(record, ctx.operands());
    let changes = gates::changes(ctx.world, ctx.driver, ctx.node, &wanted);
    // Never two writes to the Node in one plan: a version label waits for the gates.
    let moves_label = |effect: &Action| matches!(effect, Action::Unload { .. } | Action::Load { .. });
    if !changes.is_empty() {
        next.effects.retain(|effect| !moves_label(effect));
        next.effects.push(Action::PatchNode { node: ctx.node.name.clone(), uid: ctx.node.uid.clone(), changes });
    }
    next.effects.extend(sweep_pods(ctx, record.phase));
    Step { rollout: None, effects: next.effects, announcements: Vec::new() }
}

/// Whether a phase is about what the node does. Such a phase begins again, time limits and all, when a node that was not Ready
/// is back.
fn awaits_node(phase: Phase) -> bool {
    !phase.is_settled() && !matches!(phase, Phase::Admitted | Phase::Waiting)
}

/// Says of a node that is not Ready what everything else waits for.
fn not_ready(ctx: &Ctx<'_>, was: &NodeRollout, next: &mut Next) {
    if !ctx.node.ready && awaits_node(was.phase) && next.record.phase == was.phase {
        next.record.blocked_by.clone_from(&was.blocked_by);
        settled::explain(ctx, next, Reason::NotReady, ("", ""), "the node is not Ready".into());
    }
}

/// A record on its way to being written, or the effects of one that stays.
pub struct Next {
    pub record: NodeRollout,
    pub effects: Vec<Action>,
    pub announcements: Vec<Announcement>,
}

impl Next {
    /// Enters a phase. `since` differs from all earlier ones: it is the name by which looks and reports refer to the step.
    pub fn enter(&mut self, ctx: &Ctx<'_>, phase: Phase) {
        self.record.phase = phase;
        self.record.since = clock::after(self.record.since, ctx.now);
        self.record.closed_at = match phase {
            Phase::Closing | Phase::Evicting | Phase::Quiesced => self.record.closed_at.or(Some(self.record.since)),
            Phase::Unloading => self.record.closed_at,
            _ => None,
        };
        self.record.blocked_by = None;
        self.record.evidence_since = None;
        self.record.boot_id = Some(ctx.node.boot_id.clone());
    }

    /// After a reboot goes on in `phase`: what was verified in an earlier boot is not in this one, and the image of another
    /// kernel says nothing any more. Whether there was one.
    pub fn begin_boot(&mut self, ctx: &Ctx<'_>, phase: Phase) -> bool {
        if ctx.node.is_in_boot_of(&self.record) {
            return false;
        }
        self.record.from = self.record.revision.take().or(self.record.from.take());
        self.record.expected = self.record.expected.take().filter(|expected| expected.kernel == ctx.node.kernel);
        self.enter(ctx, phase);
        true
    }

    /// Says what the node waits for; keeps the time when the reason is the same as before.
    pub fn block(&mut self, ctx: &Ctx<'_>, reason: Reason, object: (&str, &str), message: String) {
        let since = match &self.record.blocked_by {
            Some(old) if old.reason == reason && old.name == object.1 => old.since,
            _ => ctx.now,
        };
        let message = text::cut(message, text::RECORD);
        let blocker = Blocker { kind: object.0.into(), name: object.1.into(), reason, message, since };
        self.record.blocked_by = Some(blocker);
    }

    pub fn unblock(&mut self) {
        self.record.blocked_by = None;
    }

    /// Turns round on the way to what is no longer wanted. That is no failure, and its time limits are not waited for.
    pub fn turn_round(&mut self, ctx: &Ctx<'_>) {
        self.remember(ctx, self.record.goal.clone(), Outcome::CalledOff);
        self.announcements.push(ctx.announce(false, "CalledOff", "another revision is wanted by now".into()));
        let phase = self.record.phase;
        self.record.revision = None;
        self.record.goal.clone_from(&ctx.wanted);
        self.record.target_revision.clone_from(&ctx.wanted);
        self.record.advertise = Advertise::None;
        self.enter(ctx, way_out(phase));
    }

    /// The driver failed on this node: back to the old revision if there is one and the strategy says so.
    pub fn fail(&mut self, ctx: &Ctx<'_>, message: String) {
        let message = text::cut(message, text::RECORD);
        let phase = self.record.phase;
        if phase != Phase::Unloading && ctx.is_overtaken(&self.record) {
            return self.turn_round(ctx);
        }
        let failed = self.record.goal.clone();
        if (self.record.cause != Some(Cause::Rollback) || self.record.failure.is_none())
            && let Some(revision) = failed.clone().or_else(|| self.record.from.clone())
        {
            self.record.failure = Some(Failure {
                revision,
                // A revision that is not wanted any more says nothing of the rollout that is under way.
                rollout: if self.record.goal == ctx.wanted { ctx.rollout.id.clone() } else { String::new() },
                phase,
                message: message.clone(),
                at: ctx.now,
            });
        }
        self.remember(ctx, failed, Outcome::Failed(format!("Failed in {phase}: {message}")));
        self.announcements.push(ctx.announce(true, "DriverFailed", format!("{phase} failed: {message}")));
        let back = self.record.from.clone().filter(|from| Some(from) != self.record.goal.as_ref());
        let may_roll_back = ctx.strategy().rollback_on_failure && phase != Phase::Unloading;
        match back {
            Some(from) if may_roll_back && self.record.cause != Some(Cause::Rollback) => {
                self.record.goal = Some(from);
                self.record.cause = Some(Cause::Rollback);
                self.record.advertise = Advertise::None;
                self.record.last_error = Some(message);
                self.enter(ctx, way_out(phase));
            }
            _ => self.quarantine(ctx, &message),
        }
    }

    /// Out of service until an administrator helps.
    pub fn quarantine(&mut self, ctx: &Ctx<'_>, message: &str) {
        self.record.advertise = Advertise::None;
        self.record.revision = None;
        self.record.goal = None;
        self.record.cause = None;
        self.record.last_error = Some(text::bounded(message, text::RECORD).into_owned());
        self.enter(ctx, Phase::Quarantined);
        self.block(ctx, Reason::Failed, ("", ""), out_of_service(message));
    }

    /// Takes the transaction back: the old revision is still loaded and is offered again.
    pub fn give_back(&mut self, ctx: &Ctx<'_>, reason: Reason, object: (&str, &str), message: String) {
        let back_off = back_off(ctx.settings, &self.record);
        self.record.retry_after = ctx.now.checked_add(back_off).ok();
        self.record.last_error = Some(text::bounded(&message, text::RECORD).into_owned());
        self.announcements.push(ctx.announce(true, "GivenBack", format!("taken back: {message}")));
        self.cancel(ctx);
        self.block(ctx, reason, object, message);
    }

    /// Takes the transaction back after the unload was decided and before KMM was told of it: the driver is loaded. It is verified
    /// again before the node is offered.
    pub fn take_back(&mut self, ctx: &Ctx<'_>) {
        self.remember(ctx, self.record.goal.clone(), Outcome::GivenBack);
        self.record.goal = self.record.from.take().or_else(|| settled::labelled_revision(ctx));
        self.record.cause = None;
        self.record.evictions.clear();
        self.record.advertise = Advertise::None;
        self.enter(ctx, Phase::Verifying);
    }

    /// The same for a reason that makes the node wait before the next try.
    pub fn take_back_for(&mut self, ctx: &Ctx<'_>, reason: Reason, object: (&str, &str), message: String) {
        let back_off = back_off(ctx.settings, &self.record);
        self.record.retry_after = ctx.now.checked_add(back_off).ok();
        self.record.last_error = Some(message.clone());
        self.announcements.push(ctx.announce(true, "GivenBack", format!("taken back: {message}")));
        self.take_back(ctx);
        self.block(ctx, reason, object, message);
    }

    /// Takes the transaction back without a reason to wait: it is not wanted any more.
    pub fn cancel(&mut self, ctx: &Ctx<'_>) {
        let untouched = self.record.phase == Phase::Admitted;
        self.remember(ctx, self.record.goal.clone(), Outcome::GivenBack);
        self.record.goal = None;
        self.record.from = None;
        self.record.cause = None;
        self.record.evictions.clear();
        if self.record.revision.is_none() {
            self.record.advertise = Advertise::None;
            self.enter(ctx, Phase::Pending);
        } else {
            self.record.advertise = Advertise::All;
            self.enter(ctx, if untouched { Phase::Pending } else { Phase::Returning });
        }
    }

    /// Adds to the node's history.
    pub fn remember(&mut self, ctx: &Ctx<'_>, revision: Option<RevisionId>, result: Outcome) {
        let started = ctx.entry.map_or(self.record.since, |entry| entry.admitted_at);
        let result = match result {
            Outcome::Failed(words) => Outcome::Failed(text::cut(words, text::RESULT)),
            other => other,
        };
        self.record.history.push(HistoryEntry { revision, result, started, at: ctx.now });
        let surplus = self.record.history.len().saturating_sub(10);
        self.record.history.drain(..surplus);
    }
}

/// How a node leaves a driver that is loaded. Where NICs are offered again, pods may have come that have to be evicted first.
fn way_out(phase: Phase) -> Phase {
    if phase == Phase::Returning { Phase::Closing } else { Phase::RollingBack }
}

/// What an administrator is told of a node that is out of service.
pub fn out_of_service(why: &str) -> String {
    format!("{why}; repair the node (a reboot takes out any driver), then label it cxi.hpe.com/upgrade=retry")
}

/// Pause before the next try: doubles with each try in a row that was taken back.
pub fn back_off(settings: &Settings, record: &NodeRollout) -> Duration {
    let row = record.history.iter().rev().take_while(|entry| entry.result == Outcome::GivenBack).count();
    let factor = 2u32.saturating_pow(u32::try_from(row).unwrap_or(u32::MAX).min(16));
    settings.back_off.saturating_mul(factor).min(settings.back_off_max)
}

/// A transaction without an entry in the ledger, or without a cause, is not the operator's: one of the two was edited
/// by hand. Outside a transaction a node is only verified and given back.
fn is_orphaned(ctx: &Ctx<'_>, record: &NodeRollout) -> bool {
    let in_ledger = ctx.entry.is_some_and(|entry| entry.attempt == record.attempt);
    let outside = record.cause.is_none() && matches!(record.phase, Phase::Verifying | Phase::Returning);
    !(record.phase.is_settled() || outside || in_ledger && record.cause.is_some())
}

/// A resting record of an unknown revision, while KMM has loaded one that is known: the record was edited by hand.
fn is_fiction(ctx: &Ctx<'_>, record: &NodeRollout) -> bool {
    let known = |revision: &RevisionId| ctx.revision(revision).is_some();
    let written = record.revision.as_ref().is_some_and(|revision| !known(revision));
    record.phase.is_settled() && written && settled::labelled_revision(ctx).is_some_and(|loaded| known(&loaded))
}

/// A record made from nothing but observation: never a later phase than what is seen proves. A node that runs is verified
/// where it stands; it is neither closed nor reloaded for it.
fn rebuild(ctx: &Ctx<'_>, old: Option<&NodeRollout>) -> NodeRollout {
    let loaded = settled::labelled_revision(ctx);
    let host_driver = loaded.is_none() && settled::is_preinstalled(ctx);
    let gate = ctx.node.labels.contains_key(&cxi_api::names::device_plugin_gate(&ctx.driver.name));
    let (phase, goal, advertise) = match loaded {
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
        goal,
        from: None,
        cause: None,
        phase,
        since,
        evidence_since: None,
        closed_at: None,
        attempt: ctx.entry.map_or(0, |entry| entry.attempt).max(old.map_or(0, |old| old.attempt)),
        advertise,
        blocked_by: None,
        boot_id: Some(ctx.node.boot_id.clone()),
        snapshot: None,
        expected: old.and_then(|old| old.expected.clone()),
        previous: old.and_then(|old| old.previous.clone()),
        host_revision: old.and_then(|old| old.host_revision.clone()),
        retry_handlers: old.map(|old| old.retry_handlers.clone()).unwrap_or_default(),
        evictions: Vec::new(),
        failure: old.and_then(|old| old.failure.clone()),
        retry_after: None,
        handled_request: old.and_then(|old| old.handled_request.clone()),
        last_error: old.and_then(|old| old.last_error.clone()),
        history: old.map(|old| old.history.clone()).unwrap_or_default(),
    }
}

/// One-shot pods that nothing waits for any more.
fn sweep_pods(ctx: &Ctx<'_>, phase: Phase) -> Vec<Action> {
    use cxi_api::names::Role;
    let needed = |role| match role {
        Role::DevicePlugin | Role::Agent | Role::MetricsExporter | Role::RetryHandler => true,
        Role::HostDriver => phase == Phase::Verifying,
        Role::Prefetch => matches!(phase, Phase::Admitted | Phase::Verifying),
        Role::Cleanup => phase == Phase::Unloading,
    };
    ctx.node
        .pods
        .iter()
        .filter(|pod| !pod.deleting && !needed(pod.role) && pod.driver == ctx.driver.name)
        .map(|pod| Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() })
        .collect()
}
