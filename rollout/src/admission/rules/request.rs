//! What an administrator asks of the node.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked, node::request::Request};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let request = candidate.member.node.ours.request?;
    if request == Request::Skip {
        return Some(Blocked::new(Reason::Skip, "the node is labelled cxi.hpe.com/upgrade=skip"));
    }
    Some(Blocked::new(Reason::UnknownRequest, request.fault()?))
}
