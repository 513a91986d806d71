//! The only place that writes what a phase decided into a node's record.

use cxi_api::{
    Advertise, Blocker, NodeRollout, Outcome, Phase, Reason, RevisionId, Why,
    node::{Failure, HistoryEntry, Pause},
    phase::Stage,
    preflight::Trial,
    strategy::UpdateType,
    transaction::{Check, Transaction, Wait, Work},
};

use crate::{
    action::{Action, Announcement},
    blocked::Blocked,
    evidence::clock,
    node::{request::Request, retry_handler},
    preflight::trial::OnTrial,
    text,
    transaction::{
        context::Ctx,
        decision::{Decision, Enter, GiveBack, Says, Stay},
        draft::Draft,
    },
};

/// How many transactions a record remembers.
const REMEMBERED: usize = 10;

/// A record with what was decided, and what people are told of it.
pub struct Written<'a> {
    pub record: Draft<'a>,
    /// What the phase does if the record stays what it is.
    pub effects: Vec<Action>,
    pub announcements: Vec<Announcement>,
}

/// Writes a decision into a record, which has what the phase found out already.
pub fn write<'a>(ctx: &Ctx<'a>, record: Draft<'a>, decision: Decision) -> Written<'a> {
    let mut next = Writer { ctx, record, announcements: Vec::new() };
    let effects = match decision {
        Decision::Stay(Stay { says, effects }) => {
            match says {
                Says::Same => {}
                Says::Nothing => next.says_nothing(),
                Says::This(blocked) => next.say(blocked),
            }
            effects
        }
        other => {
            next.leave(other);
            Vec::new()
        }
    };
    Written { record: next.record, effects, announcements: next.announcements }
}

/// What an administrator is told of a node that is out of service.
pub fn out_of_service(why: &str) -> String {
    format!("{why}; repair the node (a reboot takes out any driver), then label it cxi.hpe.com/upgrade=retry")
}

/// Writes down what a resting node waits for, if its record does not say so already.
pub fn explain(ctx: &Ctx<'_>, record: &NodeRollout, blocked: Blocked) -> Option<Box<NodeRollout>> {
    let mut next = Writer { ctx, record: Draft::of(record), announcements: Vec::new() };
    next.say(blocked);
    next.record.changed()
}

/// Whether a blocker says this already.
pub fn says(said: &Blocker, blocked: &Blocked) -> bool {
    said.reason == blocked.reason
        && said.object == blocked.object
        && said.message == text::bounded(&blocked.message, text::RECORD)
}

struct Writer<'c, 'a> {
    ctx: &'c Ctx<'a>,
    record: Draft<'a>,
    announcements: Vec<Announcement>,
}

impl Writer<'_, '_> {
    fn leave(&mut self, decision: Decision) {
        match decision {
            Decision::Stay(_) => {}
            Decision::Enter(Enter { phase, evidence_since, says }) => {
                self.enter(phase);
                self.record.evidence_since = evidence_since;
                if let Some(blocked) = says {
                    self.say(blocked);
                }
            }
            Decision::BeginBoot(phase) => self.begin_boot(phase),
            Decision::Begin(attempt) => self.begin(attempt),
            Decision::CallOff => {
                self.record.target_revision.clone_from(&self.ctx.wanted);
                self.announce(false, "CalledOff", "the node returns on its present revision".into());
                self.cancel();
            }
            Decision::GiveBack(GiveBack { why, steady, failure }) => self.give_back(why, steady, failure),
            Decision::TakeBack(why) => self.take_back(why),
            Decision::TurnRound => self.turn_round(),
            Decision::Fail(message) => self.fail(message),
            Decision::Quarantine(message) => self.quarantine(&message),
            Decision::Unloaded => {
                self.remember(None, Outcome::Unloaded);
                self.record.revision = None;
                self.record.failure = None;
                self.enter(Phase::Pending);
            }
            Decision::Finish(revision) => self.finish(&revision),
        }
    }

    fn announce(&mut self, warning: bool, reason: &str, message: String) {
        self.announcements.push(self.ctx.announce(warning, reason, message));
    }

    /// Enters a phase. `since` differs from all earlier ones: it is the name by which looks and reports refer to the step.
    fn enter(&mut self, phase: Phase) {
        let record = &mut *self.record;
        record.phase = phase;
        record.since = clock::after(record.since, self.ctx.now);
        record.blocked_by = None;
        record.wait = None;
        record.evidence_since = None;
        record.boot_id = Some(self.ctx.node.boot_id.clone());
        if phase.is_settled() {
            (record.transaction, record.check) = (None, None);
        }
        if let Some(transaction) = &mut record.transaction {
            if let Some(trial) = record.trial.as_mut().filter(|_| transaction.why == Why::Preflight)
                && phase.traits().stage == Stage::Closed
            {
                trial.closed_at.get_or_insert(record.since);
            }
            record.check = None;
            transaction.closed_at = match phase.traits().stage {
                Stage::Closed => transaction.closed_at.or(Some(record.since)),
                _ => transaction.closed_at.filter(|_| phase == Phase::Unloading),
            };
        }
    }

    fn begin_boot(&mut self, phase: Phase) {
        let verified = self.record.revision.take();
        if let Some(transaction) = &mut self.record.transaction {
            transaction.from = verified.or(transaction.from.take());
        }
        // The image of another kernel says nothing any more.
        let kernel = &self.ctx.node.kernel;
        self.record.expected = self.record.expected.take().filter(|expected| expected.kernel == *kernel);
        self.enter(phase);
    }

    /// Nothing is waited for.
    fn says_nothing(&mut self) {
        if self.record.blocked_by.is_some() || self.record.wait.is_some() {
            (self.record.blocked_by, self.record.wait) = (None, None);
        }
    }

    /// Says what the node waits for. The time stays when the reason is the same as before, and so does that of the wait.
    fn say(&mut self, blocked: Blocked) {
        let now = self.ctx.now;
        let Blocked { reason, message, object, wait } = blocked;
        let since = match &self.record.blocked_by {
            Some(old) if old.reason == reason && old.object == object => old.since,
            _ => now,
        };
        let message = text::cut(message, text::RECORD);
        self.record.blocked_by = Some(Blocker { reason, object, message, since });
        let old = self.record.wait.take();
        self.record.wait = wait.map(|(what, object)| match old {
            Some(old) if old.what == what && old.object == object => old,
            _ => Wait { what, object, since: now },
        });
    }

    /// Starts the transaction that the ledger has admitted.
    fn begin(&mut self, attempt: i32) {
        let (ctx, record) = (self.ctx, &mut *self.record);
        let goal = ctx.wanted.clone();
        let request = ctx.node.ours.request;
        let repairs = goal.is_some() && ctx.needs_repair(record);
        let stays = goal.is_some() && !repairs && record.revision == goal;
        let why = match request {
            // Also where labels have to be put right: what comes in is on trial.
            _ if ctx.trial.is_some() && record.revision != goal => Why::Preflight,
            _ if repairs => Why::Repair,
            Some(Request::Rollback) if goal.is_some() && !stays => Why::Rollback,
            _ => Why::Wanted,
        };
        if why == Why::Rollback {
            // The failure that counts is one of this transaction.
            record.failure = None;
        }
        if let Some(trial) = ctx.trial.filter(|_| why == Why::Preflight) {
            record.trial = Some(Trial { preflight: trial.preflight.uid.clone(), ..Trial::default() });
        }
        let doing = match &goal {
            None => "the operator takes the driver off the node".to_owned(),
            Some(_) if stays => "the operator replaces the node's retry handler".to_owned(),
            Some(goal) => match ctx.trial.filter(|_| why == Why::Preflight) {
                None => format!("the operator moves the node to revision {goal}"),
                Some(OnTrial { preflight, candidate }) => {
                    format!("the node tries release {} for CXIPreflight {}", candidate.version, preflight.name)
                }
            },
        };
        let work = Work { driver: !stays, retry_handler: retry_handler::differ(ctx.world, ctx.driver, ctx.node) };
        record.attempt = attempt;
        record.pause = None;
        record.handled_request = request.map(|request| request.to_string());
        record.transaction = Some(Transaction {
            why,
            goal,
            work,
            // What was being verified is what the node goes back to.
            from: record.check.take().map(|check| check.revision),
            closed_at: None,
            snapshot: None,
            evictions: Vec::new(),
        });
        self.enter(Phase::Admitted);
        self.announce(false, "Admitted", doing);
    }

    fn turn_round(&mut self) {
        let passed = self.record.why() == Some(Why::Preflight)
            && self.record.trial.as_ref().is_some_and(Trial::passed)
            && self.record.phase == Phase::Validating;
        if passed {
            self.remember(self.record.goal().cloned(), Outcome::PreflightPassed);
            self.announce(false, "PreflightPassed", "the release passed; the node goes back to its own".into());
        } else {
            self.remember(self.record.goal().cloned(), Outcome::CalledOff);
            self.announce(false, "CalledOff", "another revision is wanted by now".into());
        }
        self.record.revision = None;
        self.record.target_revision.clone_from(&self.ctx.wanted);
        self.record.advertise = Advertise::None;
        if let Some(trial) = self.record.trial.as_mut().filter(|trial| !trial.is_over()) {
            trial.failure = Some("the trial was called off".into());
            trial.ended_at = Some(self.ctx.now);
        }
        let tries = self.record.why() == Some(Why::Preflight);
        let back = self.record.from().filter(|_| tries && self.is_held()).cloned();
        if let Some(transaction) = &mut self.record.transaction {
            // Where the rollout admits no node, a preflight moves none for it: the node goes back to where it came from.
            if back.is_some() {
                transaction.why = Why::Rollback;
            }
            transaction.aim(back.or_else(|| self.ctx.wanted.clone()));
        }
        self.enter(way_out(self.record.phase));
    }

    /// Whether the rollout moves no node by itself at the moment.
    fn is_held(&self) -> bool {
        let ctx = self.ctx;
        !ctx.driver.deleting
            && (ctx.rollout.halted.is_some()
                || ctx.intent.is_paused
                || ctx.intent.strategy.kind == UpdateType::OnDelete)
    }

    /// The driver failed on this node: back to the old revision if there is one and the strategy says so.
    fn fail(&mut self, message: String) {
        let ctx = self.ctx;
        let message = text::cut(message, text::RECORD);
        let phase = self.record.phase;
        if phase != Phase::Unloading && ctx.is_overtaken(&self.record) {
            return self.turn_round();
        }
        let failed = self.record.goal().cloned();
        let goes_back = self.record.why() == Some(Why::Rollback);
        let tries = self.record.why() == Some(Why::Preflight);
        // Where the CXIDriver asks for the release by now, its failure is one of the rollout.
        let asked_for = ctx.trial.is_none() && failed == ctx.wanted && self.record.from() != failed.as_ref();
        let on_trial = ctx.trial.is_some();
        let in_preflight = on_trial || tries && !asked_for || is_on_its_way_back(&self.record);
        if let Some(trial) = self.record.trial.as_mut().filter(|trial| on_trial || tries && !trial.is_over()) {
            trial.failure = Some(format!("{phase}: {message}"));
            trial.ended_at = Some(ctx.now);
        }
        if (!goes_back || self.record.failure.is_none())
            && let Some(revision) = failed.as_ref().or(self.record.from()).cloned()
        {
            self.record.failure = Some(Failure {
                revision,
                // A revision that is not wanted any more says nothing of the rollout that is under way.
                rollout: if failed == ctx.wanted && !in_preflight { ctx.rollout.id.clone() } else { String::new() },
                in_preflight,
                phase: Some(phase),
                message: message.clone(),
                at: ctx.now,
            });
        }
        let back = self.record.from().filter(|from| Some(*from) != failed.as_ref()).cloned();
        self.remember(failed, Outcome::Failed(format!("Failed in {phase}: {message}")));
        self.announce(true, "DriverFailed", format!("{phase} failed: {message}"));
        let may_roll_back = (ctx.strategy().rolls_back || tries) && phase != Phase::Unloading;
        match (back, &mut self.record.transaction) {
            (Some(from), Some(transaction)) if may_roll_back && !goes_back => {
                transaction.aim(Some(from));
                transaction.why = Why::Rollback;
                self.record.advertise = Advertise::None;
                self.record.last_error = Some(message);
                self.enter(way_out(phase));
            }
            _ => self.quarantine(&message),
        }
    }

    fn quarantine(&mut self, message: &str) {
        self.record.advertise = Advertise::None;
        self.record.revision = None;
        self.record.last_error = Some(text::bounded(message, text::RECORD).into_owned());
        self.enter(Phase::Quarantined);
        self.say(Blocked::new(Reason::Failed, out_of_service(message)));
    }

    /// The old revision is still loaded and is offered again.
    fn give_back(&mut self, why: Blocked, steady: bool, failure: bool) {
        let (goal, phase) = (self.record.goal().cloned(), self.record.phase);
        let in_preflight = self.record.why() == Some(Why::Preflight);
        let earlier = self.record.failure.clone().filter(|_| self.record.why() == Some(Why::Rollback));
        self.pause(&why, steady);
        self.announce(true, "GivenBack", format!("taken back: {}", why.message));
        self.cancel();
        if failure {
            let failure = goal.map(|revision| Failure {
                revision,
                rollout: if in_preflight { String::new() } else { self.ctx.rollout.id.clone() },
                in_preflight,
                phase: Some(phase),
                message: text::cut(why.message.clone(), text::RECORD),
                at: self.ctx.now,
            });
            self.record.failure = earlier.or(failure);
        }
        self.say(why);
    }

    /// The driver is loaded; it is verified again before the node is offered.
    fn take_back(&mut self, why: Option<Blocked>) {
        if let Some(why) = &why {
            self.pause(why, false);
            self.announce(true, "GivenBack", format!("taken back: {}", why.message));
        } else {
            self.record.target_revision.clone_from(&self.ctx.wanted);
            self.announce(false, "CalledOff", "the node returns on its present revision".into());
        }
        self.remember(self.record.goal().cloned(), Outcome::GivenBack);
        let (from, snapshot) = self.record.transaction.take().map_or((None, None), |old| (old.from, old.snapshot));
        let revision = from.or_else(|| self.ctx.labelled_revision());
        self.record.check = revision.map(|revision| Check { revision, snapshot });
        self.record.advertise = Advertise::None;
        self.enter(Phase::Verifying);
        if let Some(why) = why {
            self.say(why);
        }
    }

    /// Takes the transaction back without a reason to wait.
    fn cancel(&mut self) {
        let untouched = self.record.phase == Phase::Admitted;
        self.remember(self.record.goal().cloned(), Outcome::GivenBack);
        let snapshot = self.record.transaction.take().and_then(|transaction| transaction.snapshot);
        let Some(revision) = self.record.revision.clone() else {
            self.record.advertise = Advertise::None;
            return self.enter(Phase::Pending);
        };
        self.record.advertise = Advertise::All;
        self.record.check = Some(Check { revision, snapshot });
        self.enter(if untouched { Phase::Pending } else { Phase::Returning });
    }

    /// The node is not tried again for a while.
    fn pause(&mut self, why: &Blocked, steady: bool) {
        let (settings, now) = (self.ctx.settings, self.ctx.now);
        let pause = if steady { settings.back_off } else { settings.back_off_after(&self.record) };
        let message = text::bounded(&why.message, text::RECORD).into_owned();
        self.record.last_error = Some(message.clone());
        let because = Blocker { reason: why.reason, object: why.object.clone(), message, since: now };
        self.record.pause = now.checked_add(pause).ok().map(|until| Pause { until, because: Some(because) });
    }

    fn finish(&mut self, revision: &RevisionId) {
        let result = match self.record.why() {
            // It came back after it had passed, which is said already.
            Some(Why::Rollback)
                if is_on_its_way_back(&self.record) && self.record.trial.as_ref().is_some_and(Trial::passed) =>
            {
                None
            }
            Some(Why::Rollback) => Some(Outcome::RolledBack),
            // It stays on trial, came back to its own revision, or the CXIDriver asks for the release by now.
            Some(Why::Preflight) if self.ctx.trial.is_some() => Some(Outcome::PreflightPassed),
            Some(Why::Preflight) if self.record.from() == Some(revision) => None,
            Some(_) => Some(Outcome::Verified),
            // Given back (said already), or verified again after a reboot.
            None => None,
        };
        if let Some(result) = result {
            let message = format!("revision {revision} is verified and in service");
            self.announce(false, &result.to_string(), message);
            self.remember(Some(revision.clone()), result);
        }
        let over = |trial: &&mut Trial| trial.is_over() && trial.unavailable_seconds.is_none();
        if let Some(trial) = self.record.trial.as_mut().filter(over) {
            let spent = trial.closed_at.map(|closed| self.ctx.now.duration_since(closed).as_secs().max(0));
            trial.unavailable_seconds = Some(spent.unwrap_or_default());
        }
        let up_to_date = self.record.target_revision.as_ref() == Some(revision);
        self.enter(if up_to_date { Phase::UpToDate } else { Phase::Pending });
    }

    /// Adds to the node's history.
    fn remember(&mut self, revision: Option<RevisionId>, result: Outcome) {
        let started = self.ctx.entry.map_or(self.record.since, |entry| entry.admitted_at);
        let result = match result {
            Outcome::Failed(words) => Outcome::Failed(text::cut(words, text::RESULT)),
            other => other,
        };
        let history = &mut self.record.history;
        history.push(HistoryEntry { revision, result, started, at: self.ctx.now });
        let surplus = history.len().saturating_sub(REMEMBERED);
        history.drain(..surplus);
    }
}

/// Whether a node goes back to its own driver after a trial.
fn is_on_its_way_back(record: &NodeRollout) -> bool {
    let trial = record.trial.as_ref().filter(|trial| trial.is_over() && trial.unavailable_seconds.is_none());
    trial.is_some() && record.why() == Some(Why::Rollback)
}

/// How a node leaves a driver that is loaded. Where NICs are offered again, pods may have come that have to be evicted first.
fn way_out(phase: Phase) -> Phase {
    if phase == Phase::Returning { Phase::Closing } else { Phase::RollingBack }
}
