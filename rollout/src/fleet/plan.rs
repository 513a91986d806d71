//! One CXIDriver as a whole: its Modules, its operands, its nodes, its ledger and its status, or its end.

use std::{cell::Cell, collections::BTreeMap};

use cxi_api::{
    RevisionId, Timestamp,
    driver_status::{InFlight, Rollout},
};

use crate::{
    action::{Action, NodeChange},
    admission,
    blocked::Blocked,
    driver::{
        agents, installation, ledger,
        obstacle::Obstacle,
        ownership::Ownership,
        scope::{Becomes, Member, Scope},
        selection::{self, Collapse},
        standing::Standing,
    },
    fleet::{invalid, release, revisions, status},
    intent::{Intent, Invalid},
    maps::Map,
    node::{request::Request, seen::Seen},
    preflight::{self, trial::Trials},
    settings::Settings,
    step::{self, Step},
    transaction::{context::Ctx, record},
    view::View,
    world::Driver,
};

/// What the plans of all CXIDrivers may look at.
#[derive(Clone, Copy)]
pub struct Room<'a> {
    pub world: &'a View<'a>,
    pub ownership: &'a Ownership<'a>,
    pub settings: &'a Settings,
    pub now: Timestamp,
    pub wake: &'a Cell<Option<Timestamp>>,
}

impl<'a> Room<'a> {
    /// Plans one driver.
    pub fn plan(self, driver: &'a Driver, intent: &'a Result<Intent<'a>, Invalid>) -> Vec<Action> {
        let Self { world, ownership, settings, now, wake } = self;
        if installation::another(world, driver).is_some() || driver.deleting && !driver.finalizer {
            // Another installation looks after it, or it goes and nothing of it is ours.
            return Vec::new();
        }
        if !driver.finalizer {
            return vec![Action::AddFinalizer { driver: driver.name.clone() }];
        }
        if installation::is_unclaimed(world, driver) {
            return vec![status::claim(world, driver)];
        }
        match intent {
            Err(why) => invalid::plan(world, driver, &Obstacle::from(why), now),
            Ok(intent) => {
                let trials = Trials::of(world, driver, intent);
                manage(&Scope { world, driver, trials, intent, ownership, settings, now, wake })
            }
        }
    }
}

/// Looks after the nodes of a driver.
fn manage(scope: &Scope<'_>) -> Vec<Action> {
    let driver = scope.driver;
    let standing = &Standing {
        conflict: scope.ownership.conflicts.get(driver.name.as_str()),
        obstacle: Obstacle::of(scope),
        collapse: Collapse::of(scope),
    };
    let mut rollout = ledger::current(scope, &scope.intent.revision);
    // Nodes are stepped by the ledger as it is stored: an admission counts once it is written.
    let stored = driver.status.rollout.as_ref().filter(|stored| stored.id == rollout.id);
    let known = stored.cloned().unwrap_or_else(|| rollout.clone());
    let (mut members, steps) = step_all(scope, standing, &known);
    selection::hold(standing.collapse.as_ref(), &mut members);
    ledger::settle(scope, &mut rollout, &members);
    let verdicts = admission::admit(scope, &mut rollout, &members, standing);
    let orphaned = scope.is_orphaning() && rollout.in_flight.is_empty();
    let left = if orphaned { release::orphaned(scope) } else { Vec::new() };
    let over = orphaned && left.is_empty() || scope.nodes().next().is_none();
    if driver.deleting && over && scope.hidden().next().is_none() {
        return release::end(scope);
    }

    let mut actions = prepare(scope, standing);
    if let Some(halt) = rollout.halted.as_ref().filter(|_| known.halted.is_none()) {
        actions.push(Action::warn(&driver.name, "RolloutHalted", halt.message.clone()));
    }
    actions.extend(records(scope, &members));
    if orphaned {
        actions.extend(left);
    } else {
        let released = release::done(scope, &members);
        for (member, step) in members.iter_mut().zip(steps) {
            let Some(step) = step else { continue };
            let verdict = verdicts.get(member.node.name.as_str());
            let step = explain(scope, &known, member, step, verdict);
            // A step that was not explained is the one that the record is of already.
            if verdict.is_some() {
                member.becomes(becomes(member.node, Some(&step)));
            }
            actions.extend(carry_out(member.node, step, &released));
        }
        actions.extend(released.into_values());
    }
    actions.extend(preflight::plan::plan(scope, &members, in_the_way(scope, standing).as_deref()));
    if standing.goes_on(scope) {
        actions.extend(revisions::retire(scope, &scope.intent.revision, &members));
    }
    actions.extend(status::write(scope, rollout, &members, standing));
    debug_assert!(
        scope.world.kmm_present || !actions.iter().any(|action| matches!(action, Action::CreateModule { .. }))
    );
    actions
}

/// What keeps preflights of the driver from going on, if anything does.
fn in_the_way(scope: &Scope<'_>, standing: &Standing<'_>) -> Option<String> {
    let name = &scope.driver.name;
    if scope.driver.deleting {
        return Some(format!("CXIDriver {name} is being deleted"));
    }
    if !scope.world.kmm_present {
        return Some(
            "KMM is not installed or does not answer: install Kernel Module Management 2.5 or newer".to_owned(),
        );
    }
    let conflict =
        standing.conflict.map(|_| format!("another CXIDriver is in the way of {name}, see its condition Conflict"));
    conflict.or_else(|| standing.obstacle.as_ref().map(|obstacle| format!("CXIDriver {name}: {}", obstacle.message)))
}

/// What the driver needs beside its nodes: the Module of its revision, and its operands.
fn prepare(scope: &Scope<'_>, standing: &Standing<'_>) -> Vec<Action> {
    let driver = scope.driver;
    let mut actions = Vec::new();
    let goes_on = standing.goes_on(scope);
    if goes_on {
        actions.extend(revisions::create(scope, scope.intent));
        actions.extend(claim(scope));
    }
    // What is taken down in order is in service until then, and nodes in flight come back before a driver is orphaned.
    let flies = driver.status.rollout.as_ref().is_some_and(|rollout| !rollout.in_flight.is_empty());
    let needed = driver.deleting && (!driver.orphan || flies);
    let in_service = needed && standing.conflict.is_none() && scope.nodes().next().is_some();
    // Those that run stay; none is started without its policy.
    let guarded = agents::unguarded(scope.world.agent_policy).is_none();
    // A name is written down before NICs are offered under it: pods that hold them are found by it.
    let named = driver.resource_names().all(|name| driver.status.resource_names.iter().any(|stored| stored == name));
    if (goes_on || in_service) && guarded && named && !driver.operands_current {
        actions.push(Action::ApplyOperands { driver: driver.name.clone(), spec: scope.intent.for_manifests() });
    }
    let collapse = standing.collapse.as_ref();
    actions.extend(collapse.and_then(|collapse| status::begins_to_collapse(driver, collapse)));
    actions
}

/// Steps every node of the driver: the nodes, and in the same order what comes of each. Nothing comes of a node that cannot be read or
/// has no record.
fn step_all<'a>(scope: &Scope<'a>, standing: &Standing<'_>, rollout: &Rollout) -> (Vec<Member<'a>>, Vec<Option<Step>>) {
    let entries: Map<&str, &InFlight> = rollout.in_flight.iter().map(|entry| (entry.node.as_str(), entry)).collect();
    let mut members = Vec::with_capacity(scope.nodes().len());
    let mut steps = Vec::with_capacity(scope.nodes().len());
    for node in scope.nodes() {
        let wanted = wanted(scope, node, standing.collapse.as_ref());
        let step = (node.unreadable.is_none() && node.record.is_some()).then(|| {
            let entry = entries.get(node.name.as_str()).copied().filter(|entry| entry.uid == node.uid);
            step::step(&context(scope, node, rollout, entry, wanted.clone()))
        });
        let record = becomes(node, step.as_ref());
        members.push(Member::new(scope, node, wanted, record));
        steps.push(step);
    }
    (members, steps)
}

/// What a step makes of the record of a node.
fn becomes<'a>(node: &'a Seen<'a>, step: Option<&Step>) -> Becomes<'a> {
    match step.and_then(Step::record) {
        Some(record) => Becomes::Changed(Box::new(record.clone())),
        None => Becomes::Same(node.node().rollout().filter(|_| step.is_some())),
    }
}

/// Creates the records that are missing. What is to be taken down in order needs one too.
fn records<'m>(scope: &'m Scope<'_>, members: &'m [Member<'_>]) -> impl Iterator<Item = Action> + 'm {
    let driver = scope.driver;
    let missing = members.iter().filter(move |member| {
        let node = member.node;
        let needed = !driver.deleting || !node.kmm.versions.is_empty() && !driver.orphan;
        needed && node.unreadable.is_none() && node.record.is_none() && node.stale_record.is_none()
    });
    missing.map(|member| Action::CreateRecord { node: member.node.name.clone(), uid: member.node.uid.clone() })
}

fn context<'a>(
    scope: &Scope<'a>,
    node: &'a Seen<'a>,
    rollout: &'a Rollout,
    entry: Option<&'a InFlight>,
    wanted: Option<RevisionId>,
) -> Ctx<'a> {
    Ctx {
        world: scope.world,
        driver: scope.driver,
        intent: scope.intent,
        node,
        settings: scope.settings,
        now: scope.now,
        rollout,
        entry,
        trial: scope.trial(node, wanted.as_ref()),
        wanted,
        wake: scope.wake,
    }
}

/// The revision that a node should be on: the target, the previous one if the administrator asks for it, or none.
fn wanted(scope: &Scope<'_>, node: &Seen<'_>, collapse: Option<&Collapse<'_>>) -> Option<RevisionId> {
    let (driver, target) = (scope.driver, &scope.intent.revision);
    if driver.deleting {
        return None;
    }
    if !node.is_selected {
        return collapse.and_then(|collapse| collapse.stays_on(node));
    }
    let asked_back = node.ours.request == Some(Request::Rollback);
    let previous = || {
        let record = node.rollout()?;
        let good = |revision: &&RevisionId| {
            let module = scope.revision(revision).is_some_and(|known| !known.deleting);
            module || record.host_revision.as_ref() == Some(*revision)
        };
        revisions::worked(record)
            .map(|(revision, _)| revision)
            .filter(|revision| *revision != target)
            .find(good)
            .cloned()
    };
    if let Some(trial) = scope.trials.of_node(node) {
        return Some(trial.candidate.revision.clone());
    }
    // What a CXIPreflight that cannot be read wants of the node is not known: it stays where it is.
    let record = node.rollout();
    let trial = record.and_then(|record| record.trial.as_ref());
    if trial.is_some_and(|trial| scope.world.unreadable_preflights.contains(&trial.preflight)) {
        return record.and_then(|record| record.target_revision.clone()).or_else(|| Some(target.clone()));
    }
    Some(if asked_back { previous().unwrap_or_else(|| target.clone()) } else { target.clone() })
}

/// Takes nodes that no CXIDriver owns.
fn claim(scope: &Scope<'_>) -> Vec<Action> {
    let mine = scope.ownership.claims.iter().filter(|(_, driver)| **driver == scope.driver.name);
    mine.filter_map(|(node, _)| scope.world.nodes.get(*node))
        .map(|node| Action::PatchNode {
            node: node.name.clone(),
            uid: node.uid.clone(),
            changes: vec![NodeChange::SetLabel {
                key: cxi_api::names::DRIVER_LABEL.into(),
                was: node.labels.get(cxi_api::names::DRIVER_LABEL).cloned(),
                value: scope.driver.name.clone(),
            }],
        })
        .collect()
}

/// Adds to a resting node's record why it is not admitted.
fn explain(scope: &Scope<'_>, rollout: &Rollout, member: &Member<'_>, step: Step, verdict: Option<&Blocked>) -> Step {
    let Some(blocked) = verdict else { return step };
    let stored = member.node.rollout();
    let Some(record) = step.record().or(stored).filter(|record| record.phase.is_settled()) else { return step };
    if record.blocked_by.as_ref().is_some_and(|said| record::says(said, blocked)) {
        return step;
    }
    let ctx = context(scope, member.node, rollout, None, member.wanted.clone());
    let Some(said) = record::explain(&ctx, record, blocked.clone()) else { return step };
    if stored == Some(&*said) {
        return step;
    }
    let announcements = match step {
        Step::Write { announcements, .. } => announcements,
        Step::Act(_) => Vec::new(),
    };
    Step::Write { record: said, announcements }
}

/// What is done for a step. A node that is let go is changed for that, and for nothing else.
fn carry_out(node: &Seen<'_>, step: Step, released: &BTreeMap<String, Action>) -> Vec<Action> {
    match step {
        Step::Act(effects) => {
            let stays = |effect: &Action| !matches!(effect, Action::PatchNode { .. });
            let let_go = released.contains_key(&node.name);
            effects.into_iter().filter(|effect| !let_go || stays(effect)).collect()
        }
        Step::Write { record: now, announcements } => {
            let write = node.record.as_ref().map(|record| Action::WriteRollout {
                node: node.name.clone(),
                uid: record.uid.clone(),
                was: record.rollout.clone().map(Box::new),
                now,
            });
            write.into_iter().chain(announcements.into_iter().map(Action::Announce)).collect()
        }
    }
}
