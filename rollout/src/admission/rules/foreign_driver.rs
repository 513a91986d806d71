//! A driver of another installation is on the node: KMM loads it, whatever else is there.

use cxi_api::Reason;

use crate::{admission::Candidate, blocked::Blocked, evidence::labels::foreign_label};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let world = candidate.fleet.scope.world;
    let label = foreign_label(candidate.member.node, &world.namespace)?;
    let message = format!(
        "an operator in another namespace has loaded a driver here (label {label}); take that installation down in order, or, if \
         it is gone, remove the label and reboot the node"
    );
    Some(Blocked::new(Reason::AnotherInstallation, message))
}
