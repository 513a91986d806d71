//! The administrator has paused the rollout.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let intent = candidate.fleet.scope.intent;
    if intent.is_paused {
        return Some(Blocked::new(Reason::Paused, "spec.paused is set: set it to false, then the operator goes on"));
    }
    intent.strategy.budget.is_frozen().then(|| {
        Blocked::new(Reason::Frozen, "updateStrategy.maxUnavailable is 0: raise it, then the operator goes on")
    })
}
