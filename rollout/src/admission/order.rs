//! In which order nodes are considered.

use super::{
    Unit,
    stake::{Stake, stake},
};
use crate::{
    driver::scope::{Member, Scope},
    maps::Set,
    node::request::Request,
};

/// What may be admitted, in the order of admission. Today every node is a unit of its own.
pub fn units<'m, 'a>(scope: &Scope<'_>, in_flight: &Set<&str>, members: &'m [Member<'a>]) -> Vec<Unit<'m, 'a>> {
    let ordered = candidates(scope, in_flight, members).into_iter();
    ordered.filter_map(|member| Some(Unit { members: vec![(member, member.node.rollout()?)] })).collect()
}

fn candidates<'m, 'a>(scope: &Scope<'_>, in_flight: &Set<&str>, members: &'m [Member<'a>]) -> Vec<&'m Member<'a>> {
    let mut candidates: Vec<&Member<'_>> = members
        .iter()
        .filter(|member| {
            let in_ledger = in_flight.contains(member.node.name.as_str());
            // What is about to change is judged when it has changed.
            !in_ledger && (member.is_unchanged() || member.record().is_some_and(|record| record.phase.is_settled()))
        })
        .filter(|member| member.moves)
        .collect();
    candidates.sort_by_cached_key(|member| {
        let node = member.node;
        let asked = node.ours.request.is_some_and(Request::moves);
        let record = node.rollout();
        let at_stake = record.is_some_and(|record| stake(scope, member, record) != Stake::Nothing);
        let homeless = record.and_then(|record| record.revision.as_ref()).is_some_and(|revision| {
            let known = scope.revision(revision);
            known.is_some_and(|known| !known.images.is_empty() && !known.images.contains_key(&node.kernel))
        });
        let own = scope.world.own_node.as_ref() == Some(&node.name);
        // Nothing can hold these up, so they count before the budget is given to others.
        (
            !member.repair,
            member.trial.is_some(),
            own,
            at_stake,
            !asked,
            !homeless,
            node.holders.len(),
            node.created,
            node.name.as_str(),
        )
    });
    candidates
}
