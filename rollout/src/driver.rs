//! One CXIDriver as a whole: its Modules, its operands, its nodes, its ledger and its status, or its end.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{BTreeMap, HashMap},
};

use cxi_api::{
    NodeRollout, Reason, RevisionId, Timestamp,
    driver::SourceType,
    driver_status::{InFlight, Rollout},
    names::Role,
};

use crate::{
    action::{Action, NodeChange},
    admission::{self, Closed},
    agents, drift, gates, installation, ledger,
    obstacle::Obstacle,
    ownership::{Ownership, selects},
    proof::version_labels,
    request::Request,
    revisions,
    selection::{self, Collapse},
    settings::Settings,
    settled, status,
    step::{self, Ctx, Step},
    view::View,
    world::{Driver, Holder, Node, OwnPod, Revision},
};

/// What the planning of one driver may look at.
pub struct Scope<'a> {
    pub world: &'a View<'a>,
    pub driver: &'a Driver,
    /// The revision that the spec describes.
    pub target: RevisionId,
    /// Label that opens a node to the device plugin.
    pub plugin_gate: String,
    /// Label that opens a node to the retry handler.
    pub retry_handler_gate: String,
    pub ownership: &'a Ownership<'a>,
    pub settings: &'a Settings,
    pub now: Timestamp,
    pub wake: &'a Cell<Option<Timestamp>>,
}

/// Nodes of a driver with what this plan makes of their records.
pub struct Member<'a> {
    pub node: &'a Node,
    /// Revision that the node should be on.
    pub wanted: Option<RevisionId>,
    /// The record as it will be when this plan is carried out.
    pub record: Option<Cow<'a, NodeRollout>>,
    /// Pods on the node that hold the driver's NICs.
    pub holders: Vec<&'a Holder>,
    /// What the node shows, besides.
    pub seen: Seen<'a>,
}

/// What is asked of a node's labels again and again: a node of a large cluster is not at hand a second time.
pub struct Seen<'a> {
    /// What the administrator asks of the node.
    pub request: Option<Request<'a>>,
    /// Value of the gate of the device plugin.
    pub plugin: Option<&'a str>,
    /// Value of the gate of the retry handler.
    pub retry_handler: Option<&'a str>,
    /// Whether it has a version label of KMM's.
    pub labelled: bool,
    /// See [`drift::needs_repair`], by the record as it is stored.
    pub repair: bool,
    /// See [`drift::needs_transaction`], by the record as it is stored.
    pub moves: bool,
}

impl<'a> Member<'a> {
    fn new(
        scope: &Scope<'a>,
        node: &'a Node,
        wanted: Option<RevisionId>,
        record: Option<Cow<'a, NodeRollout>>,
    ) -> Self {
        let label = |key: &str| node.labels.get(key).map(String::as_str);
        let stored = node.rollout();
        let seen = Seen {
            request: Request::of(node),
            plugin: label(&scope.plugin_gate),
            retry_handler: label(&scope.retry_handler_gate),
            labelled: version_labels(node, &scope.world.namespace).next().is_some(),
            repair: stored.is_some_and(|record| drift::needs_repair(scope.world, node, record)),
            moves: stored.is_some_and(|record| drift::needs_transaction(scope.world, node, record, wanted.as_ref())),
        };
        Self { node, wanted, record, holders: node.holders_of(scope.driver), seen }
    }
}

impl<'a> Scope<'a> {
    /// Whether a node cannot be read, and is the driver's or may be: one whose labels are not known may be of any.
    pub fn is_hidden(&self, node: &Node) -> bool {
        let owner = self.ownership.owner.get(node.name.as_str());
        let mine = owner.map_or_else(|| selects(self.driver, node), |owner| *owner == self.driver.name);
        node.unreadable.is_some() && (mine || node.labels.is_empty())
    }

    /// Nodes that belong to the driver.
    pub fn nodes(&self) -> impl Iterator<Item = &'a Node> {
        let (world, ownership, name) = (self.world, self.ownership, &self.driver.name);
        world.nodes.values().filter(move |node| ownership.owner.get(node.name.as_str()) == Some(&name.as_str()))
    }

    /// The Module of a revision; none for a revision that the host brings.
    pub fn revision(&self, id: &RevisionId) -> Option<&'a Revision> {
        self.world.revision(&self.driver.name, id)
    }

    pub fn is_preinstalled(&self) -> bool {
        self.driver.spec.source.kind == SourceType::Preinstalled
    }
}

/// Plans one driver.
pub fn plan(scope: &Scope<'_>) -> Vec<Action> {
    let Scope { world, driver, ownership, .. } = scope;
    let mut actions = Vec::new();
    if installation::another(world, driver).is_some() || driver.deleting && !driver.finalizer {
        return actions;
    }
    if !driver.finalizer {
        return vec![Action::AddFinalizer { driver: driver.name.clone() }];
    }
    if installation::is_unclaimed(scope) {
        return vec![status::claim(scope)];
    }
    let conflict = ownership.conflicts.get(&driver.name);
    let obstacle = Obstacle::of(scope);
    let target = scope.target.clone();
    let going_on = !driver.deleting && conflict.is_none() && obstacle.is_none();
    if going_on {
        actions.extend(revisions::create(scope, &target));
        actions.extend(claim(scope));
    }
    // What is taken down in order is in service until then.
    let in_service = driver.deleting && !driver.orphan && conflict.is_none() && scope.nodes().next().is_some();
    // Those that run stay; none is started without its policy.
    let guarded = agents::unguarded(world.agent_policy).is_none();
    // A name is written down before NICs are offered under it: pods that hold them are found by it.
    let named = driver.resource_names().all(|name| driver.status.resource_names.iter().any(|stored| stored == name));
    if (going_on || in_service) && guarded && named && !driver.operands_current {
        actions.push(Action::ApplyOperands { driver: driver.name.clone() });
    }
    let mut rollout = ledger::current(scope, &target);
    let stored = driver.status.rollout.as_ref();
    // Nodes are stepped by the ledger as it is stored: an admission counts once it is written.
    let known = stored.filter(|stored| stored.id == rollout.id).cloned().unwrap_or_else(|| rollout.clone());
    let orphaning = driver.deleting && driver.orphan;
    let collapse = Collapse::of(scope);
    actions.extend(collapse.as_ref().and_then(|collapse| status::begins_to_collapse(driver, collapse)));

    let entries: HashMap<&str, &InFlight> = known.in_flight.iter().map(|entry| (entry.node.as_str(), entry)).collect();
    let mut members = Vec::new();
    // Of each member, in the same order.
    let mut steps: Vec<Option<Step>> = Vec::new();
    for node in scope.nodes() {
        let wanted = wanted(scope, node, &target, collapse.as_ref());
        if node.unreadable.is_some() {
            members.push(Member::new(scope, node, wanted, None));
            steps.push(None);
            continue;
        }
        if node.record.is_none() {
            // What is to be taken down in order needs a record too.
            let loaded = version_labels(node, &world.namespace).next().is_some();
            let needed = !driver.deleting || (loaded && !driver.orphan);
            if node.stale_record.is_none() && needed {
                actions.push(Action::CreateRecord { node: node.name.clone(), uid: node.uid.clone() });
            }
            members.push(Member::new(scope, node, wanted, None));
            steps.push(None);
            continue;
        }
        let entry = entries.get(node.name.as_str()).copied().filter(|entry| entry.uid == node.uid);
        let ctx = context(scope, node, &known, entry, wanted.clone());
        let step = step::step(&ctx);
        let record = step.rollout.clone().map(Cow::Owned).or(node.rollout().map(Cow::Borrowed));
        steps.push(Some(step));
        members.push(Member::new(scope, node, wanted, record));
    }

    selection::hold(collapse.as_ref(), &mut members);
    ledger::settle(scope, &mut rollout, &members);
    if let Some(halt) = &rollout.halted
        && known.halted.is_none()
    {
        actions.push(Action::warn(&driver.name, "RolloutHalted", halt.message.clone()));
    }
    let closed = if conflict.is_some() { Some(Closed::Conflict) } else { orphaning.then_some(Closed::Orphaning) };
    let verdicts = admission::admit(scope, &mut rollout, &members, obstacle.as_ref(), closed);
    for (member, step) in members.iter_mut().zip(steps) {
        let Some(step) = step else { continue };
        let step = explain(scope, &known, member, step, &verdicts);
        member.record = step.rollout.clone().map(Cow::Owned).or(member.node.rollout().map(Cow::Borrowed));
        actions.extend(carry_out(member.node, step));
    }
    part_with(scope, &members, orphaning && rollout.in_flight.is_empty(), &mut actions);
    if going_on {
        actions.extend(revisions::retire(scope, &target, &members));
    }
    let unreadable = world.nodes.values().any(|node| scope.is_hidden(node));
    let ended =
        driver.deleting && !unreadable && (orphaning && rollout.in_flight.is_empty() || scope.nodes().next().is_none());
    if ended && !actions.iter().any(|action| matches!(action, Action::PatchNode { .. } | Action::DeleteRecord { .. })) {
        return end(scope, actions, orphaning);
    }
    actions.extend(status::write(
        scope,
        rollout,
        &members,
        &status::InTheWay { conflict, obstacle: obstacle.as_ref(), collapse: collapse.as_ref() },
    ));
    debug_assert!(world.kmm_present || !actions.iter().any(|action| matches!(action, Action::CreateModule { .. })));
    actions
}

fn context<'a>(
    scope: &Scope<'a>,
    node: &'a Node,
    rollout: &'a Rollout,
    entry: Option<&'a InFlight>,
    wanted: Option<RevisionId>,
) -> Ctx<'a> {
    Ctx {
        world: scope.world,
        driver: scope.driver,
        node,
        settings: scope.settings,
        now: scope.now,
        rollout,
        entry,
        wanted,
        wake: scope.wake,
    }
}

/// The revision that a node should be on: the target, the previous one if the administrator asks for it, or none.
fn wanted(scope: &Scope<'_>, node: &Node, target: &RevisionId, collapse: Option<&Collapse<'_>>) -> Option<RevisionId> {
    let driver = scope.driver;
    if driver.deleting {
        return None;
    }
    if !selects(driver, node) {
        return collapse.and_then(|collapse| collapse.stays_on(node));
    }
    let asked_back = Request::of(node) == Some(Request::Rollback);
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
    Some(if asked_back { previous().unwrap_or_else(|| target.clone()) } else { target.clone() })
}

/// Takes nodes that no CXIDriver owns.
fn claim(scope: &Scope<'_>) -> Vec<Action> {
    let mine = scope.ownership.claims.iter().filter(|(_, driver)| **driver == scope.driver.name);
    mine.filter_map(|(node, _)| scope.world.nodes.get(node))
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
fn explain(
    scope: &Scope<'_>,
    rollout: &Rollout,
    member: &Member<'_>,
    step: Step,
    verdicts: &HashMap<&str, (Reason, (&'static str, String), String)>,
) -> Step {
    let Some((reason, object, message)) = verdicts.get(member.node.name.as_str()) else { return step };
    let Some(record) = step.rollout.as_ref().or(member.node.rollout()).filter(|record| record.phase.is_settled())
    else {
        return step;
    };
    if record.blocked_by.as_ref().is_some_and(|said| settled::says(said, *reason, &object.1, message)) {
        return step;
    }
    let record = record.clone();
    let ctx = context(scope, member.node, rollout, None, member.wanted.clone());
    let mut next = step::Next { record, effects: Vec::new(), announcements: Vec::new() };
    settled::explain(&ctx, &mut next, *reason, (object.0, &object.1), message.clone());
    if member.node.rollout() == Some(&next.record) {
        return step;
    }
    Step { rollout: Some(next.record), effects: Vec::new(), announcements: step.announcements }
}

fn carry_out(node: &Node, step: Step) -> Vec<Action> {
    let mut actions = step.effects;
    if let (Some(now), Some(record)) = (step.rollout, &node.record) {
        actions.push(Action::WriteRollout {
            node: node.name.clone(),
            uid: record.uid.clone(),
            was: record.rollout.clone().map(Box::new),
            now: Box::new(now),
        });
    }
    actions.extend(step.announcements.into_iter().map(Action::Announce));
    actions
}

/// Lets nodes go that are done, or all of them with their drivers loaded.
fn part_with(scope: &Scope<'_>, members: &[Member<'_>], orphaned: bool, actions: &mut Vec<Action>) {
    if orphaned {
        actions.retain(|action| !matches!(action, Action::PatchNode { .. } | Action::WriteRollout { .. }));
        actions.extend(let_go(scope));
        return;
    }
    let released = release(scope, members);
    let patched = |action: &Action| matches!(action, Action::PatchNode { node, .. } if released.contains_key(node));
    actions.retain(|action| !patched(action));
    actions.extend(released.into_values());
}

/// Lets nodes go whose driver was unloaded in order: their label, then (when it is gone) their record. Where an
/// administrator took KMM's label away by hand, pods may still be at work: they keep what is there for them.
fn release(scope: &Scope<'_>, members: &[Member<'_>]) -> BTreeMap<String, Action> {
    let in_flight = scope.driver.status.rollout.as_ref().map(ledger::names).unwrap_or_default();
    let gone = members.iter().filter(|member| {
        if !member.holders.is_empty() || member.node.unreadable.is_some() {
            return false;
        }
        let labelled = member.seen.labelled;
        let Some(record) = member.node.rollout() else {
            return scope.driver.deleting && member.node.record.is_none() && !labelled;
        };
        let idle = !in_flight.contains(member.node.name.as_str());
        let same = member.record.as_deref() == Some(record);
        let stays = |role| matches!(role, Role::DevicePlugin | Role::RetryHandler);
        let swept = |pod: &OwnPod| stays(pod.role) || pod.driver != scope.driver.name;
        member.wanted.is_none()
            && idle
            && same
            && !labelled
            && member.node.pods.iter().all(swept)
            && record.phase == cxi_api::Phase::Pending
            && record.revision.is_none()
            && record.target_revision.is_none()
    });
    let mut actions = BTreeMap::new();
    for member in gone {
        let wanted = gates::Wanted {
            owner: Some(false),
            gate: Some(None),
            retry_handler: Some(None),
            version: Some(None),
            taint: Some(false),
        };
        let changes = gates::changes(scope.world, scope.driver, member.node, &wanted);
        if !changes.is_empty() {
            let (node, uid) = (member.node.name.clone(), member.node.uid.clone());
            actions.insert(node.clone(), Action::PatchNode { node, uid, changes });
        }
    }
    actions
}

/// Leaves the drivers loaded: KMM's Modules and labels stay, and with them the label that the Modules select by. A node without
/// a label of KMM's has nothing that it would be for.
fn let_go(scope: &Scope<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    for node in scope.nodes().filter(|node| node.unreadable.is_none()) {
        let loaded = version_labels(node, &scope.world.namespace).next().is_some();
        let wanted = gates::Wanted {
            owner: (!loaded).then_some(false),
            gate: Some(None),
            retry_handler: Some(None),
            version: (!loaded).then_some(None),
            taint: Some(false),
        };
        let changes = gates::changes(scope.world, scope.driver, node, &wanted);
        if !changes.is_empty() {
            actions.push(Action::PatchNode { node: node.name.clone(), uid: node.uid.clone(), changes });
        } else if let Some(record) = &node.record {
            actions.push(Action::DeleteRecord { node: node.name.clone(), uid: record.uid.clone() });
        }
    }
    actions
}

/// Nothing of the driver is left on a node (or it is to be left there): the rest goes, the finalizer last. Modules go one after the
/// other: when the last two go at once, KMM takes each for not the last, and refuses to let the namespace go for ever
/// (`tryRemovingLabel` in `module_reconciler.go` counts what its cache still has).
fn end(scope: &Scope<'_>, mut actions: Vec<Action>, orphaning: bool) -> Vec<Action> {
    actions.retain(|action| matches!(action, Action::Announce(_)));
    let mine: Vec<_> = scope.world.revisions.iter().filter(|revision| revision.driver == scope.driver.name).collect();
    if !orphaning && !mine.is_empty() {
        if mine.iter().all(|revision| !revision.deleting) {
            actions.extend(mine.first().map(|revision| Action::DeleteModule { revision: revision.id.clone() }));
        }
        return actions;
    }
    actions.push(Action::DeleteOperands { driver: scope.driver.name.clone() });
    actions.push(Action::RemoveFinalizer { driver: scope.driver.name.clone() });
    actions
}
