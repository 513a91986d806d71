//! A driver of another installation is on the node: KMM loads it, whatever else is there.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let label = candidate.member.node.kmm.foreign?;
    let message = format!(
        "an operator in another namespace has loaded a driver here (label {label}); take that installation down in order, or, if \
         it is gone, remove the label and reboot the node"
    );
    Some(Blocked::new(Reason::AnotherInstallation, message))
}
