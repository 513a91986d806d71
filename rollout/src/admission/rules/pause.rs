//! The administrator has paused the rollout.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let spec = &candidate.fleet.scope.driver.spec;
    if spec.paused {
        return Some(Blocked::new(Reason::Paused, "spec.paused is set: set it to false, then the operator goes on"));
    }
    let frozen = spec.update_strategy.budget(1) == Some(0);
    frozen.then(|| {
        Blocked::new(Reason::Frozen, "updateStrategy.maxUnavailable is 0: raise it, then the operator goes on")
    })
}
