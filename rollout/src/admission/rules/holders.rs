//! A process or a kernel module that no eviction ends holds the device.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked, evidence::proof::lasting_holder};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let node = candidate.member.node;
    let holder = lasting_holder(node, node.report()?, &candidate.member.node.holders)?;
    let message = format!("{holder}: end it, then the operator can move the node");
    Some(Blocked::new(Reason::HostHolder, message).on("Process", holder))
}
