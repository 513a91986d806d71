//! With `updateStrategy.type: OnDelete` the administrator asks for each node.

use cxi_api::{Reason, strategy::UpdateType};

use crate::{admission::Candidate, blocked::Blocked, node::request::Request};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let on_delete = candidate.fleet.scope.intent.strategy.kind == UpdateType::OnDelete;
    let replaces = candidate.record.revision.is_some() && candidate.member.wanted.is_some();
    let asked = candidate.member.node.ours.request.is_some_and(Request::moves) || candidate.member.trial.is_some();
    let message = "updateStrategy.type is OnDelete: label the node cxi.hpe.com/upgrade=now to move it";
    (on_delete && replaces && !asked).then(|| Blocked::new(Reason::OnDelete, message))
}
