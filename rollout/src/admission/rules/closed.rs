//! The CXIDriver as a whole admits no node.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked, driver::standing::Closed};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let (reason, message) = match candidate.fleet.closed? {
        Closed::Conflict => (Reason::Conflict, "another CXIDriver is in the way, see the condition Conflict"),
        Closed::Orphaning => (Reason::Orphaning, "the CXIDriver is being deleted, and its driver stays loaded"),
    };
    Some(Blocked::new(reason, message))
}
