//! A release that a CXIPreflight asks about is tried while no other node of the CXIDriver is being moved.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let trial = candidate.member.trial?;
    let other = candidate.rollout.in_flight.first()?;
    let message = format!(
        "CXIPreflight {} waits until no node of the CXIDriver is being moved: {} is",
        trial.preflight.name, other.node
    );
    Some(Blocked::new(Reason::Preflight, message).on("Node", &other.node))
}
