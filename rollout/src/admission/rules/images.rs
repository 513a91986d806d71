//! The image that the node needs is not there.

use crate::{
    admission::{Candidate, image},
    blocked::Blocked,
};

pub fn rule(candidate: &Candidate<'_>) -> Option<Blocked> {
    let wanted = candidate.member.wanted.as_ref()?;
    if candidate.record.revision.as_ref() == Some(wanted) {
        return None;
    }
    let scope = candidate.fleet.scope;
    if scope.world.was_of_host(candidate.record, wanted) {
        return None;
    }
    // A node that is asked back needs only its own.
    if *wanted == scope.intent.revision && scope.intent.asks_for_all_images {
        return candidate.fleet.images.clone();
    }
    image::of(scope, candidate.member.node, wanted)
}
