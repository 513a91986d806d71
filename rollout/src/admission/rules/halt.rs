//! The rollout stopped after too many failures.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let halt =
        candidate.rollout.halted.as_ref().filter(|_| !candidate.retries() && candidate.member.trial.is_none())?;
    Some(Blocked::new(Reason::Halted, &halt.message))
}
