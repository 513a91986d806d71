//! The KMM Modules of a driver: one per revision, created once, never edited, and deleted when no node needs it.

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::{NodeRollout, RevisionId, Timestamp, names::module_name, node::HistoryEntry};

use crate::{
    action::Action,
    driver::scope::{Member, Scope},
    evidence::labels::version_labels,
    world::Revision,
};

/// Creates the target's Module if it is not there, then the Containerfile that KMM builds its images by. KMM tries a build
/// again until it finds the Containerfile.
pub fn create(scope: &Scope<'_>, target: &RevisionId) -> Option<Action> {
    let (driver, revision, spec) = (scope.driver.name.clone(), target.clone(), scope.driver.spec.clone());
    match scope.revision(target) {
        None if scope.is_preinstalled() || scope.world.taken_by(&driver, target).is_some() => None,
        None => Some(Action::CreateModule { driver, revision, spec }),
        Some(found) => {
            let missing = scope.driver.spec.source.builds() && !found.containerfile && !found.deleting;
            missing.then_some(Action::CreateContainerfile { driver, revision, spec })
        }
    }
}

/// Revisions that worked on a node, the present one first, then the last, each with the time at which it was verified.
pub fn worked(record: &NodeRollout) -> impl Iterator<Item = (&RevisionId, Timestamp)> {
    let present = record.revision.iter().map(|revision| (revision, record.since));
    let well = |entry: &&HistoryEntry| entry.result.is_good();
    let earlier = record.history.iter().rev().filter(well);
    present.chain(earlier.filter_map(|entry| Some((entry.revision.as_ref()?, entry.at))))
}

/// Deletes Modules that no node needs. KMM unloads a deleted Module everywhere at once, so a label or a record that names it anywhere
/// keeps it. Of the others as many are kept as the history limit says: first those to which a node would go back, then those that
/// worked last. One that never ran anywhere is a mistake that was taken back, and goes.
pub fn retire(scope: &Scope<'_>, target: &RevisionId, members: &[Member<'_>]) -> Vec<Action> {
    // What is on a node that cannot be read is not known.
    if scope.world.nodes.values().any(|node| scope.is_hidden(node)) {
        return Vec::new();
    }
    let driver = scope.driver;
    let mine = || scope.world.revisions.iter().filter(|revision| revision.driver == driver.name);
    let by_module: BTreeMap<String, &RevisionId> = mine().map(|known| (module_name(&known.id), &known.id)).collect();
    let mut used: BTreeSet<&str> = [target.as_str()].into();
    let mut last_worked: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut goes_back_to: BTreeSet<&str> = BTreeSet::new();
    for node in scope.world.nodes.values() {
        used.extend(version_labels(node, &scope.world.namespace).map(|(_, value)| value.as_str()));
        let listed = node.kmm_has.iter().chain(&node.kmm_wants).filter_map(|module| by_module.get(&module.name));
        used.extend(listed.map(|revision| revision.as_str()));
        let Some(record) = node.rollout() else { continue };
        let named = [record.revision.as_ref(), record.target_revision.as_ref(), record.goal(), record.from()];
        used.extend(named.into_iter().flatten().map(RevisionId::as_str));
        for (revision, at) in worked(record) {
            let last = last_worked.entry(revision.as_str()).or_insert(at);
            *last = at.max(*last);
        }
        goes_back_to
            .extend(worked(record).map(|(revision, _)| revision.as_str()).find(|revision| !used.contains(revision)));
    }
    let asked = scope.world.preflights().filter(|preflight| !preflight.deleting && !preflight.status.is_over());
    used.extend(asked.filter_map(|preflight| Some(preflight.candidate.as_ref()?.revision.as_str())));
    used.extend(members.iter().filter_map(|member| member.wanted.as_ref()).map(RevisionId::as_str));
    used.extend(driver.status.current_revision.iter().map(RevisionId::as_str));
    let unused = mine().filter(|revision| !revision.deleting && !used.contains(revision.id.as_str()));
    let (mut proven, never_ran): (Vec<&Revision>, Vec<&Revision>) =
        unused.partition(|revision| last_worked.contains_key(revision.id.as_str()));
    proven.sort_by_key(|revision| {
        let id = revision.id.as_str();
        std::cmp::Reverse((goes_back_to.contains(id), last_worked[id], id))
    });
    let keep = usize::try_from(driver.spec.revision_history_limit).unwrap_or(0);
    let surplus = proven.into_iter().skip(keep).chain(never_ran);
    surplus.map(|revision| Action::DeleteModule { revision: revision.id.clone() }).collect()
}
