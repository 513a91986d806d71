//! What an administrator reads in a CXIDriver: counters as recounts of the records, conditions, one word for the state.

use cxi_api::{
    CXIDriverStatus, NodeRollout, Outcome, Phase, Reason, Timestamp, driver_status::Rollout, names::UPGRADE_LABEL,
    node::HistoryEntry,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    action::Action,
    admission::{self, is_in_service},
    blocked::Blocked,
    driver::{
        ledger,
        scope::{Member, Scope},
        selection::Collapse,
        standing::Standing,
    },
    fleet::{conditions::Conditions, operands},
    node::request::Request,
    text,
    world::{Driver, PodProblem, World},
};

/// Type of the condition that is there while nodes are held because too many stopped to be selected.
pub const SELECTOR_COLLAPSED: &str = "SelectorCollapsed";

/// Type of the condition that says what the nodes wait for, and the state of a CXIDriver whose nodes wait.
pub const BLOCKED: &str = "Blocked";

/// Says once that nodes are held.
pub fn begins_to_collapse(driver: &Driver, collapse: &Collapse<'_>) -> Option<Action> {
    let told = driver.status.conditions.iter().any(|known| known.type_ == SELECTOR_COLLAPSED);
    (!told).then(|| Action::warn(&driver.name, SELECTOR_COLLAPSED, collapse.message()))
}

/// The status with this installation in it, and nothing else: what another one may be about to do is not known before.
pub fn claim(world: &World, driver: &Driver) -> Action {
    let status = CXIDriverStatus {
        observed_generation: driver.generation,
        installation: Some(world.namespace.clone()),
        ..driver.status.clone()
    };
    Action::WriteDriverStatus { driver: driver.name.clone(), status: Box::new(status), urgent: true }
}

/// The present resource name, and all earlier ones. None is ever forgotten: that no pod holds a NIC under it cannot be told from a
/// cache, and a name that is forgotten makes its holders invisible.
fn resource_names(scope: &Scope<'_>) -> Vec<String> {
    scope.driver.resource_names().map(str::to_owned).collect()
}

/// The status as it should be, if it is not.
pub fn write(scope: &Scope<'_>, rollout: Rollout, members: &[Member<'_>], standing: &Standing<'_>) -> Option<Action> {
    let driver = scope.driver;
    let old = &driver.status;
    let target = scope.intent.revision.clone();
    let facts = Facts::gather(scope, &rollout, members, standing);
    let everywhere = facts.updated > 0 && facts.updated + facts.on_trial == facts.total;
    let current = if everywhere { Some(target.clone()) } else { old.current_revision.clone() };
    let version = if everywhere { Some(scope.intent.version.to_owned()) } else { old.version.clone() };
    let mut rollout = rollout;
    let ledger_changed = old.rollout.as_ref().is_none_or(|stored| {
        (&stored.id, &stored.in_flight, &stored.failed, stored.failed_nodes, &stored.halted)
            != (&rollout.id, &rollout.in_flight, &rollout.failed, rollout.failed_nodes, &rollout.halted)
    });
    rollout.eta = if ledger_changed { eta(scope, &rollout, members) } else { rollout.eta };
    let conditions = facts.conditions(scope, &rollout, members, &old.conditions);
    let status = CXIDriverStatus {
        observed_generation: driver.generation,
        version,
        target_version: Some(scope.intent.version.to_owned()),
        current_revision: current,
        target_revision: (!driver.deleting).then_some(target),
        total: facts.total,
        updated: facts.updated,
        ready: facts.ready,
        updating: facts.updating,
        failed: facts.failed,
        blocked: facts.blocked,
        state: Some(facts.state(scope, &rollout).into()),
        rollout: Some(rollout),
        installation: old.installation.clone(),
        resource_names: resource_names(scope),
        sidecar: driver.sidecar.clone(),
        conditions,
    };
    if status == *old {
        return None;
    }
    let flags = |status: &CXIDriverStatus| -> Vec<(String, String, String)> {
        let flag = |c: &Condition| (c.type_.clone(), c.status.clone(), c.reason.clone());
        status.conditions.iter().map(flag).collect()
    };
    let urgent = ledger_changed
        || old.resource_names != status.resource_names
        || flags(&status) != flags(old)
        || old.observed_generation != status.observed_generation;
    Some(Action::WriteDriverStatus { driver: driver.name.clone(), status: Box::new(status), urgent })
}

/// What the status is made of.
struct Facts {
    total: i32,
    updated: i32,
    ready: i32,
    updating: i32,
    failed: i32,
    blocked: i32,
    out_of_service: Option<String>,
    top_blocker: Option<(Reason, String, usize)>,
    preflight: Option<(&'static str, String)>,
    conflict: Option<String>,
    obstacle: Option<(String, String)>,
    collapse: Option<String>,
    /// Nodes that try a release for a CXIPreflight, which is not the rollout's affair.
    on_trial: i32,
    /// Nodes that an administrator has rolled back, and their names.
    rolled_back: (i32, String),
    deleting: bool,
}

impl Facts {
    fn gather(scope: &Scope<'_>, rollout: &Rollout, members: &[Member<'_>], standing: &Standing<'_>) -> Self {
        let target = scope.intent.revision.clone();
        let count = |test: &dyn Fn(&Member<'_>, &NodeRollout) -> bool| {
            let matching = members.iter().filter(|m| m.record().is_some_and(|record| test(m, record)));
            i32::try_from(matching.count()).unwrap_or(i32::MAX)
        };
        let wanted = |m: &Member<'_>| m.wanted.as_ref() == Some(&target);
        // Of a driver that is taken down, what still runs as the spec describes it. A record is Pending from the first moment on.
        let deleting = scope.driver.deleting;
        let rests = |r: &NodeRollout| r.phase == Phase::UpToDate || deleting && r.phase == Phase::Pending;
        let updated = count(&|m, r| (wanted(m) || deleting) && rests(r) && r.revision.as_ref() == Some(&target));
        let flying = ledger::names(rollout);
        let in_flight = |m: &Member<'_>| flying.contains(m.node.name.as_str());
        let really = |r: &NodeRollout| {
            let reason = r.blocked_by.as_ref().map(|blocker| blocker.reason);
            reason.filter(|reason| !matches!(reason, Reason::Budget))
        };
        let blocked = |m: &Member<'_>, r: &NodeRollout| {
            r.phase == Phase::Pending && !in_flight(m) && m.trial.is_none() && really(r).is_some()
        };
        let used_up = budget_used_up(scope, rollout, members);
        let mut reasons: Vec<(Reason, String, usize)> = Vec::new();
        let unreadable: Vec<(&str, &String)> =
            members.iter().filter_map(|m| Some((m.node.name.as_str(), m.node.unreadable.as_ref()?))).collect();
        if let Some((node, why)) = unreadable.first() {
            let message = text::cut(
                format!("{node}: {why}. The operator changes nothing on the node until you correct it"),
                text::DRIVER,
            );
            reasons.push((Reason::Unreadable, message, unreadable.len()));
        }
        for member in members {
            let Some(record) = member.record().filter(|record| blocked(member, record)) else {
                continue;
            };
            let Some(why) = &record.blocked_by else { continue };
            match reasons.iter_mut().find(|(reason, ..)| *reason == why.reason) {
                Some((_, _, times)) => *times += 1,
                None => reasons.push((why.reason, format!("{}: {}", member.node.name, why.message), 1)),
            }
        }
        reasons.sort_by_key(|(_, _, times)| std::cmp::Reverse(*times));
        let quarantined = |m: &&Member<'_>| m.record().is_some_and(|r| r.phase == Phase::Quarantined);
        let out_of_service = text::some(members.iter().filter(quarantined).map(|m| m.node.name.as_str()));
        let went_back = |m: &&Member<'_>| {
            let there = m.record().is_some_and(|r| r.phase == Phase::UpToDate && r.revision == m.wanted);
            m.node.ours.request == Some(Request::Rollback) && !wanted(m) && there
        };
        let went_back: Vec<&str> = members.iter().filter(went_back).map(|m| m.node.name.as_str()).collect();
        Self {
            total: i32::try_from(members.len()).unwrap_or(i32::MAX),
            updated,
            ready: count(&|m, r| is_in_service(scope, m, r)),
            updating: i32::try_from(rollout.in_flight.len()).unwrap_or(i32::MAX),
            failed: count(&|_, r| {
                r.failure.as_ref().is_some_and(|f| f.revision == target) || r.phase == Phase::Quarantined
            }),
            blocked: count(&blocked).saturating_add(i32::try_from(unreadable.len()).unwrap_or(i32::MAX)),
            out_of_service: Some(out_of_service).filter(|names| !names.is_empty()),
            top_blocker: used_up.map(|message| (Reason::Budget, message, 1)).or(reasons.into_iter().next()),
            preflight: preflight(scope, members),
            conflict: standing.conflict.cloned(),
            obstacle: standing
                .obstacle
                .as_ref()
                .map(|obstacle| (obstacle.kind.as_str().to_owned(), obstacle.message.clone())),
            collapse: standing.collapse.as_ref().map(Collapse::message),
            on_trial: count(&|m, _| m.trial.is_some()),
            rolled_back: (i32::try_from(went_back.len()).unwrap_or(i32::MAX), text::some(went_back)),
            deleting,
        }
    }

    fn done(&self) -> bool {
        self.updated + self.on_trial == self.total && self.updating == 0
    }

    /// Whether all that is left to do are nodes that an administrator has rolled back.
    fn is_rolled_back(&self) -> bool {
        self.rolled_back.0 > 0 && self.updated + self.rolled_back.0 == self.total && self.updating == 0
    }

    /// Whether nodes move or will, the reason, and a sentence.
    fn progress(&self) -> (bool, &'static str, String) {
        let Self { updated, total, updating, .. } = self;
        let (rolled_back, names) = &self.rolled_back;
        if self.deleting {
            let moves = *updating > 0 || self.blocked < *total;
            let message = format!(
                "the CXIDriver is being deleted: {total} nodes still belong to it, {updated} of them run its driver untouched, \
                 {updating} are in flight"
            );
            return (moves, if moves { "TearingDown" } else { "Waiting" }, message);
        }
        let mut message = format!("{updated} of {total} nodes are on the wanted revision, {updating} in flight");
        if *rolled_back > 0 {
            message = format!(
                "{message}. Rolled back by the label {UPGRADE_LABEL}=rollback: {names}. They stay there until you remove the label, \
                 which moves them to the wanted revision"
            );
        }
        let moves = *updating > 0 || !self.done() && self.blocked < total - updated - rolled_back - self.on_trial;
        let reason = if moves {
            "RolloutInProgress"
        } else if self.done() {
            "RolloutComplete"
        } else if self.is_rolled_back() {
            "RolledBack"
        } else {
            "Waiting"
        };
        (moves, reason, message)
    }

    /// The most important thing in one word.
    fn state(&self, scope: &Scope<'_>, rollout: &Rollout) -> &'static str {
        if self.conflict.is_some() {
            "Conflict"
        } else if scope.driver.deleting {
            "Deleting"
        } else if rollout.halted.is_some() {
            "Halted"
        } else if self.obstacle.is_some() || self.collapse.is_some() {
            BLOCKED
        } else if self.total == 0 {
            "NoNodes"
        } else if self.updating > 0 {
            "Updating"
        } else if self.done() {
            "Ready"
        } else if scope.intent.is_paused {
            "Paused"
        } else if scope.intent.strategy.budget.is_frozen() {
            "Frozen"
        } else if self.blocked > 0 {
            BLOCKED
        } else if self.failed > 0 {
            "Degraded"
        } else if self.is_rolled_back() {
            "RolledBack"
        } else {
            "Updating"
        }
    }

    fn conditions(
        &self,
        scope: &Scope<'_>,
        rollout: &Rollout,
        members: &[Member<'_>],
        old: &[Condition],
    ) -> Vec<Condition> {
        let driver = scope.driver;
        let mut set = Conditions { generation: driver.generation, now: scope.now, old, new: Vec::new() };
        let available = self.total > 0 && self.ready == self.total;
        let counts = format!("{} of {} nodes are verified and in service", self.ready, self.total);
        set.put("Available", available, if available { "AllNodesVerified" } else { "NodesMissing" }, &counts);
        let (progressing, reason, progress) = self.progress();
        set.put("Progressing", progressing, reason, &progress);
        let degraded = self.failed > 0 || self.out_of_service.is_some();
        let bad = match &self.out_of_service {
            None => format!("the driver failed on {} nodes", self.failed),
            Some(names) => format!("out of service: {names}"),
        };
        set.put(
            "Degraded",
            degraded,
            if degraded { "DriverFailed" } else { "AsExpected" },
            if degraded { &bad } else { "no node has failed" },
        );
        match &rollout.halted {
            Some(halt) => set.put("Halted", true, "TooManyFailures", &halt.message),
            None => set.put("Halted", false, "NotHalted", "the rollout goes on"),
        }
        match (&self.obstacle, &self.top_blocker) {
            _ if self.conflict.is_some() => {
                set.put(BLOCKED, true, "Conflict", "another CXIDriver is in the way, see the condition Conflict");
            }
            (Some((reason, message)), _) => set.put(BLOCKED, true, reason, message),
            _ if self.collapse.is_some() => {
                let message = "too many nodes no longer match spec.nodeSelector, see the condition SelectorCollapsed";
                set.put(BLOCKED, true, SELECTOR_COLLAPSED, message);
            }
            (None, Some((reason, message, times))) => {
                let more = match times {
                    0 | 1 => String::new(),
                    2 => " (and 1 more node)".to_owned(),
                    _ => format!(" (and {} more nodes)", text::about(times - 1)),
                };
                set.put(BLOCKED, true, &reason.to_string(), &format!("{message}{more}"));
            }
            (None, None) if self.total == 0 => {
                set.put(BLOCKED, true, "NoNodeSelected", "no node carries the labels of spec.nodeSelector");
            }
            (None, None) => set.put(BLOCKED, false, "NotBlocked", "no node waits for anything outside the rollout"),
        }
        match &self.conflict {
            Some(why) => {
                set.put("Conflict", true, "NodesOwnedByAnother", &format!("{why}. This CXIDriver changes nothing"));
            }
            None => set.put("Conflict", false, "NoConflict", "no other CXIDriver selects these nodes"),
        }
        match &self.preflight {
            Some((reason, message)) => set.put("PreflightPassed", false, reason, message),
            None if self.total == 0 => {
                set.put_as("PreflightPassed", "Unknown", "NoNodes", "no node is selected, so no image was looked for");
            }
            None => set.put("PreflightPassed", true, "ImagesVerified", "the images of all kernels in use exist"),
        }
        if let Some(message) = &self.collapse {
            set.put(SELECTOR_COLLAPSED, true, "TooManyNodes", message);
        }
        operands::put(&mut set, scope, members);
        set.new
    }
}

/// Which nodes use up the budget, if nodes wait for it and none of those is in flight: without help, none will be.
fn budget_used_up(scope: &Scope<'_>, rollout: &Rollout, members: &[Member<'_>]) -> Option<String> {
    let waits = |record: &NodeRollout| {
        record.phase == Phase::Pending && record.blocked_by.as_ref().is_some_and(|why| why.reason == Reason::Budget)
    };
    let waiting = members.iter().any(|member| member.record().is_some_and(waits));
    if !waiting || !rollout.in_flight.is_empty() {
        return None;
    }
    let unavailable = members.iter().filter(|member| {
        !admission::is_skipped(member) && !member.record().is_some_and(|r| is_in_service(scope, member, r))
    });
    let names = text::some(unavailable.map(|member| member.node.name.as_str()));
    Some(format!(
        "nodes that are out of service for other reasons use up updateStrategy.maxUnavailable: {names}. Bring them back, raise the \
         limit, or label them cxi.hpe.com/upgrade=skip, which leaves them out of the count"
    ))
}

/// What is wrong with the image of the wanted revision for the first kernel for which something is. Only here the scheduler's words are repeated: they change all
/// the time, and the records of all nodes would with them.
fn preflight(scope: &Scope<'_>, members: &[Member<'_>]) -> Option<(&'static str, String)> {
    let (node, Blocked { reason, message, .. }) = admission::images_of(scope, members)?;
    let image = scope.revision(&scope.intent.revision).and_then(|revision| revision.images.get(&node.kernel));
    let reason = if reason == Reason::ImageUnverified { "ImagesUnverified" } else { "ImagesMissing" };
    match image.and_then(|image| image.problem.as_ref()) {
        Some(PodProblem::Unscheduled(words)) => Some((reason, format!("{message}: {words}"))),
        _ => Some((reason, message)),
    }
}

/// When the rollout is expected to end: mean time of the nodes that are done, times what is left, by how many go at once.
fn eta(scope: &Scope<'_>, rollout: &Rollout, members: &[Member<'_>]) -> Option<Timestamp> {
    let verified = |entry: &&HistoryEntry| entry.result == Outcome::Verified && entry.started >= rollout.started_at;
    let times: Vec<f64> = members
        .iter()
        .filter_map(|member| member.record())
        .flat_map(|record| record.history.iter().filter(verified))
        .map(|entry| entry.at.duration_since(entry.started).as_secs_f64())
        .collect();
    let left =
        members.iter().filter(|m| m.record().is_none_or(|r| r.revision.is_none() || r.revision != m.wanted)).count();
    if times.is_empty() || left == 0 {
        return None;
    }
    let (left, parallel) = (u32::try_from(left).ok()?, u32::try_from(rollout.in_flight.len().max(1)).ok()?);
    let mean = times.iter().sum::<f64>() / f64::from(u32::try_from(times.len()).ok()?);
    let seconds = mean * f64::from(left) / f64::from(parallel);
    scope.now.checked_add(std::time::Duration::try_from_secs_f64(seconds.round()).ok()?).ok()
}
