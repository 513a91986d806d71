//! The node agent says nothing of the node.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let message = "the node agent has not reported in this boot, and without a report the operator proves nothing: look at its pod";
    candidate.member.node.report().is_none().then(|| Blocked::new(Reason::AgentSilent, message))
}
