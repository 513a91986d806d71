//! The end of a CXIDriver on its nodes, and its own.

use std::collections::BTreeMap;

use cxi_api::names::Role;

use crate::{
    action::Action,
    driver::{
        ledger,
        scope::{Member, Scope},
    },
    node::gates,
    world::OwnPod,
};

/// Lets nodes go whose driver was unloaded in order: their label, then (when it is gone) their record. Where an
/// administrator took KMM's label away by hand, pods may still be at work: they keep what is there for them.
pub fn done(scope: &Scope<'_>, members: &[Member<'_>]) -> BTreeMap<String, Action> {
    let in_flight = scope.driver.status.rollout.as_ref().map(ledger::names).unwrap_or_default();
    let gone = members.iter().filter(|member| {
        if !member.node.holders.is_empty() || member.node.unreadable.is_some() {
            return false;
        }
        let labelled = !member.node.kmm.versions.is_empty();
        let Some(record) = member.node.rollout() else {
            return scope.driver.deleting && member.node.record.is_none() && !labelled;
        };
        let idle = || !in_flight.contains(member.node.name.as_str());
        let stays = |role| matches!(role, Role::DevicePlugin | Role::RetryHandler);
        let swept = |pod: &OwnPod| stays(pod.role) || pod.driver != scope.driver.name;
        member.wanted.is_none()
            && idle()
            && member.is_unchanged()
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
pub fn orphaned(scope: &Scope<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    for node in scope.nodes().filter(|node| node.unreadable.is_none()) {
        let loaded = !node.kmm.versions.is_empty();
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
pub fn end(scope: &Scope<'_>) -> Vec<Action> {
    let driver = &scope.driver.name;
    let mine: Vec<_> = scope.world.revisions.iter().filter(|revision| revision.driver == *driver).collect();
    match mine.first() {
        Some(_) if mine.iter().any(|revision| revision.deleting) && !scope.driver.orphan => Vec::new(),
        Some(first) if !scope.driver.orphan => vec![Action::DeleteModule { revision: first.id.clone() }],
        _ => {
            vec![Action::DeleteOperands { driver: driver.clone() }, Action::RemoveFinalizer { driver: driver.clone() }]
        }
    }
}
