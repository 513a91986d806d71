//! The revision failed on this node.

use cxi_api::{Phase, Reason, names::UPGRADE_LABEL};

use crate::{admission::Candidate, blocked::Blocked, transaction::record::out_of_service};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let record = candidate.record;
    let failure = record.failure.as_ref()?;
    // What a preflight left out of service waits for an administrator, whatever is wanted by now.
    let left = failure.in_preflight && record.phase == Phase::Quarantined;
    let counts = failure.rollout == candidate.rollout.id && candidate.member.wanted.as_ref() == Some(&failure.revision);
    if candidate.retries() || !left && !counts {
        return None;
    }
    let message = if record.phase == Phase::Quarantined {
        out_of_service(record.last_error.as_ref().unwrap_or(&failure.message))
    } else {
        format!(
            "revision {} failed here ({}); label the node {UPGRADE_LABEL}=retry to try again",
            failure.revision, failure.message
        )
    };
    Some(Blocked::new(Reason::Failed, message))
}
