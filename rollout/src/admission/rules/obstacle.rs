//! Something is in the way of the CXIDriver as a whole.

use crate::{admission::Candidate, blocked::Blocked};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let obstacle = candidate.fleet.obstacle?;
    Some(Blocked::new(obstacle.kind.reason(), &obstacle.message))
}
