//! The node itself is out of service.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let node = candidate.member.node;
    if !node.ready {
        return Some(Blocked::new(Reason::NotReady, "the node is not Ready"));
    }
    let message = "the node is cordoned: uncordon it, or leave it to its owner";
    node.cordoned.then(|| Blocked::new(Reason::Cordoned, message))
}
