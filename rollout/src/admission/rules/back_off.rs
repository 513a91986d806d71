//! The node was tried a short time ago.

use cxi_api::{Reason, names::UPGRADE_LABEL};

use crate::{admission::Candidate, blocked::Blocked, node::request::Request};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let scope = candidate.fleet.scope;
    let pause = candidate.record.pause.as_ref().filter(|pause| pause.until > scope.now)?;
    if candidate.retries() || candidate.member.node.ours.request == Some(Request::Now) {
        return None;
    }
    let until = pause.until;
    scope.wake_at(until);
    let again = format!("the operator tries the node again after {until:.0}");
    Some(match &pause.because {
        None => Blocked::new(Reason::BackOff, again),
        // What kept the node the last time, and when it is tried again.
        Some(because) => {
            let message = format!("{}; {again}, or at once with the label {UPGRADE_LABEL}=now", because.message);
            Blocked { object: because.object.clone(), ..Blocked::new(because.reason, message) }
        }
    })
}
