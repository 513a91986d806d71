//! The KMM Modules of a driver: one per revision, created once, never edited, and deleted when no node needs it.

use cxi_api::{NodeRollout, RevisionId, Timestamp, names::revision_in, node::HistoryEntry};

use crate::{
    action::Action,
    driver::scope::{Member, Scope},
    intent::Intent,
    maps::{Map, Set},
    world::Revision,
};

/// Creates the Module of what is asked for if it is not there, then the Containerfile that KMM builds its images by. KMM tries a build
/// again until it finds the Containerfile.
pub fn create(scope: &Scope<'_>, asked: &Intent<'_>) -> Option<Action> {
    let (driver, revision, spec) = (scope.driver.name.clone(), asked.revision.clone(), asked.for_manifests());
    match scope.revision(&revision) {
        None if asked.is_preinstalled() || scope.world.taken_by(&driver, &revision).is_some() => None,
        None => Some(Action::CreateModule { driver, revision, spec }),
        Some(found) => {
            let missing = asked.source.builds() && !found.containerfile && !found.deleting;
            missing.then_some(Action::CreateContainerfile { driver, revision, spec })
        }
    }
}

/// Why a revision whose Module would have the name of another CXIDriver's has none, and what helps.
pub fn names_meet(revision: &RevisionId, other: &str) -> String {
    format!(
        "Module cxi-{revision} belongs to CXIDriver {other}: names of revisions are short, and these two meet. Change anything in \
         spec.source, such as a parameter of a module, for another name"
    )
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
    if scope.hidden().next().is_some() {
        return Vec::new();
    }
    let driver = scope.driver;
    let mine = || scope.world.revisions.iter().filter(|revision| revision.driver == driver.name);
    let ids: Set<&RevisionId> = mine().map(|known| &known.id).collect();
    let mut used: Set<RevisionId> = [target.clone()].into_iter().collect();
    let wanted = members.iter().filter_map(|member| member.wanted.as_ref()).chain(&driver.status.current_revision);
    let mut left: Set<&RevisionId> = mine().filter(|known| !known.deleting).map(|known| &known.id).collect();
    for id in wanted.chain([target]) {
        left.remove(id);
    }
    let asked = scope.world.preflights.iter().filter(|preflight| !preflight.deleting && !preflight.status.is_over());
    for candidate in asked.filter_map(|preflight| preflight.candidate.as_ref()) {
        left.remove(&candidate.revision);
    }
    let mut last_worked: Map<&RevisionId, Timestamp> = Map::default();
    let mut goes_back_to: Set<&RevisionId> = Set::default();
    for node in &scope.world.seen {
        if left.is_empty() {
            return Vec::new();
        }
        let listed = node.kmm_has.iter().chain(&node.kmm_wants).filter_map(|module| revision_in(&module.name));
        let listed = listed.filter_map(|revision| revision.parse().ok()).filter(|revision| ids.contains(revision));
        let labelled = node.kmm.versions.iter().filter_map(|(_, value)| value.parse().ok());
        let record = node.rollout();
        let named = record.map(|of| [of.revision.as_ref(), of.target_revision.as_ref(), of.goal(), of.from()]);
        let named = named.into_iter().flatten().flatten().cloned();
        for id in labelled.chain(listed).chain(named) {
            left.remove(&id);
            used.insert(id);
        }
        let Some(record) = record else { continue };
        for (revision, at) in worked(record) {
            let last = last_worked.entry(revision).or_insert(at);
            *last = at.max(*last);
        }
        goes_back_to.extend(worked(record).map(|(revision, _)| revision).find(|revision| !used.contains(revision)));
    }
    let unused = mine().filter(|revision| left.contains(&revision.id));
    let (mut proven, never_ran): (Vec<&Revision>, Vec<&Revision>) =
        unused.partition(|revision| last_worked.contains_key(&revision.id));
    proven.sort_by_key(|revision| {
        let id = &revision.id;
        std::cmp::Reverse((goes_back_to.contains(id), last_worked[id], id))
    });
    let surplus = proven.into_iter().skip(scope.intent.history).chain(never_ran);
    surplus.map(|revision| Action::DeleteModule { revision: revision.id.clone() }).collect()
}
