//! The KMM Modules of a driver: one per revision, created once, never edited, and deleted when no node needs it.

use std::collections::BTreeSet;

use cxi_api::{RevisionId, names::module_name};

use crate::{
    action::Action,
    driver::{Member, Scope},
    proof::version_labels,
    world::Revision,
};

/// Creates the target's Module if it is not there, then the Containerfile that KMM builds its images by. KMM tries a build
/// again until it finds the Containerfile.
pub fn create(scope: &Scope<'_>, target: &RevisionId) -> Option<Action> {
    let (driver, revision) = (scope.driver.name.clone(), target.clone());
    match scope.world.revision(target) {
        None if scope.is_preinstalled() => None,
        None => Some(Action::CreateModule { driver, revision }),
        Some(found) => {
            let missing = scope.driver.spec.source.builds() && !found.containerfile && !found.deleting;
            missing.then_some(Action::CreateContainerfile { driver, revision })
        }
    }
}

/// Deletes Modules that are neither wanted, nor on any node, nor among the newest that are kept for rollback. KMM unloads
/// a deleted Module everywhere at once, so a label or a record that names it anywhere keeps it.
pub fn retire(scope: &Scope<'_>, target: &RevisionId, members: &[Member<'_>]) -> Vec<Action> {
    let mut used: BTreeSet<String> = [target.to_string()].into();
    for node in scope.world.nodes.values() {
        used.extend(version_labels(node, &scope.world.namespace).map(|(_, value)| value.clone()));
        let known = scope.world.revisions.iter().filter(|revision| {
            let name = module_name(&revision.id);
            node.kmm_has.iter().chain(&node.kmm_wants).any(|module| module.name == name)
        });
        used.extend(known.map(|revision| revision.id.to_string()));
        if let Some(record) = node.rollout() {
            let named = [&record.revision, &record.target_revision, &record.goal, &record.from];
            used.extend(named.into_iter().flatten().map(ToString::to_string));
        }
    }
    used.extend(members.iter().filter_map(|member| member.wanted.as_ref()).map(ToString::to_string));
    used.extend(scope.driver.status.current_revision.iter().map(ToString::to_string));
    let mut unused: Vec<&Revision> = scope
        .world
        .revisions
        .iter()
        .filter(|revision| {
            revision.driver == scope.driver.name && !revision.deleting && !used.contains(revision.id.as_str())
        })
        .collect();
    unused.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    let keep = usize::try_from(scope.driver.spec.revision_history_limit).unwrap_or(0);
    unused.into_iter().skip(keep).map(|revision| Action::DeleteModule { revision: revision.id.clone() }).collect()
}
