//! A pod that must not, or cannot, be evicted.

use crate::{admission::Candidate, blocked::Blocked, node::disruption};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let scope = candidate.fleet.scope;
    disruption::in_the_way(&scope.intent.strategy.drain, &candidate.member.node.holders, candidate.allowance, scope.now)
}
