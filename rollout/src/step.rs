//! One step of one node: from what is written in its record and what is observed, either the next record or the effects that
//! the present record asks for. Never both: the intent is written first, and its effects follow once it is.

use cxi_api::{NodeRollout, Reason, names::DRIVER_LABEL, transaction::WaitFor};

use crate::{
    action::{Action, Announcement, NodeChange},
    blocked::Blocked,
    evidence::clock,
    node::gates,
    phases,
    transaction::{
        context::Ctx,
        decision::{Decision, Says},
        draft::Draft,
        rebuild::{self, rebuild},
        record,
    },
};

/// What comes of a step.
#[derive(Debug)]
pub enum Step {
    /// The record changes, and people are told of it.
    Write { record: Box<NodeRollout>, announcements: Vec<Announcement> },
    /// The record is as it should be, and these are done for it.
    Act(Vec<Action>),
}

impl Step {
    /// A record of which there is nothing to tell.
    fn write(record: Box<NodeRollout>) -> Self {
        Self::Write { record, announcements: Vec::new() }
    }

    /// The next record, if it is to change.
    pub fn record(&self) -> Option<&NodeRollout> {
        match self {
            Self::Write { record, .. } => Some(record),
            Self::Act(_) => None,
        }
    }
}

/// Steps a node. Without a stored record, or with one that cannot be the operator's, it is rebuilt from observation.
pub fn step(ctx: &Ctx<'_>) -> Step {
    let Some(stored) = ctx.node.rollout() else { return Step::write(Box::new(rebuild(ctx, None))) };
    if rebuild::is_needed(ctx, stored) {
        return Step::write(Box::new(rebuild(ctx, Some(stored))));
    }
    if let Some(put_right) = clock::put_right(stored, ctx.now, ctx.settings) {
        return Step::write(put_right);
    }
    let mut found = Draft::of(stored);
    let decision = if is_back(ctx, stored) {
        Decision::enter(stored.phase)
    } else {
        let decision = phases::decide(ctx, &mut found);
        not_ready(ctx, stored, decision)
    };
    let mut written = record::write(ctx, found, decision);
    let release = gates::release(ctx.world, stored, &written.record);
    if written.record.version.as_deref() != release {
        written.record.version = release.map(str::to_owned);
    }
    match written.record.changed() {
        Some(record) => Step::Write { record, announcements: written.announcements },
        None => Step::Act(effects(ctx, stored, written.effects)),
    }
}

/// What is done for a record that is as it should be: what its phase asks for, its gates, and its one-shot pods.
fn effects(ctx: &Ctx<'_>, record: &NodeRollout, mut effects: Vec<Action>) -> Vec<Action> {
    let wanted = gates::wanted(record, ctx.operands());
    let changes = gates::changes(ctx.world, ctx.driver, ctx.node, &wanted);
    // Never two writes to the Node in one plan: a version label waits for the gates.
    let moves_label = |effect: &Action| matches!(effect, Action::Unload { .. } | Action::Load { .. });
    if !changes.is_empty() {
        effects.extend(owner_changed(ctx, &changes).map(Action::Announce));
        effects.retain(|effect| !moves_label(effect));
        effects.push(Action::PatchNode { node: ctx.node.name.clone(), uid: ctx.node.uid.clone(), changes });
    }
    effects.extend(sweep_pods(ctx, record));
    effects
}

/// What people are told when the label that names the owner is set back.
fn owner_changed(ctx: &Ctx<'_>, changes: &[NodeChange]) -> Option<Announcement> {
    let other = changes.iter().find_map(|change| match change {
        NodeChange::SetLabel { key, was, .. } if key == DRIVER_LABEL => was.as_ref(),
        _ => None,
    })?;
    let owner = &ctx.driver.name;
    let message = format!(
        "the node label {DRIVER_LABEL} was changed from {owner} to {other} while CXIDriver {owner} has its driver on the node: the \
         operator sets it back. To give the node to {other}, change spec.nodeSelector of both CXIDrivers; the operator then unloads \
         the driver in order"
    );
    Some(ctx.announce(true, "OwnerChanged", message))
}

/// Whether a node that was not Ready is back in the boot in which its phase began.
fn is_back(ctx: &Ctx<'_>, record: &NodeRollout) -> bool {
    let was_away = record.wait.as_ref().is_some_and(|wait| wait.what == WaitFor::NodeReady);
    was_away && ctx.node.is_in_boot_of(record) && ctx.node.ready && record.phase.is_on_the_node()
}

/// Says of a node that is not Ready what everything else waits for.
fn not_ready(ctx: &Ctx<'_>, record: &NodeRollout, decision: Decision) -> Decision {
    match decision {
        Decision::Stay(mut stay) if !ctx.node.ready && record.phase.is_on_the_node() => {
            let blocked = Blocked::new(Reason::NotReady, "the node is not Ready").awaits(WaitFor::NodeReady, "");
            stay.says = Says::This(blocked);
            Decision::Stay(stay)
        }
        other => other,
    }
}

/// Deletes one-shot pods that nothing waits for any more.
fn sweep_pods(ctx: &Ctx<'_>, record: &NodeRollout) -> Vec<Action> {
    let needed = record.phase.traits().pods;
    let swept = ctx.node.pods.iter().filter(|pod| {
        let one_shot = pod.role.is_one_shot() && pod.driver == ctx.driver.name;
        one_shot && !pod.deleting && !needed.contains(&pod.role)
    });
    swept.map(|pod| Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() }).collect()
}
