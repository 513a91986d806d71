//! A pod that must not, or cannot, be evicted.

use crate::{admission::Candidate, blocked::Blocked, node::disruption};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let scope = candidate.fleet.scope;
    let drain = &scope.driver.spec.update_strategy.drain;
    disruption::in_the_way(drain, &candidate.member.node.holders, candidate.allowance, scope.now)
}
