//! The ledger of a rollout: which nodes are in flight, which failed, whether it halted. It is stored in the CXIDriver's
//! status and written with a compare-and-swap before any node is touched.

use cxi_api::{
    RevisionId, Timestamp,
    driver_status::{FailedNode, Halt, Rollout},
};

use crate::{
    drift,
    driver::{Member, Scope},
};

/// The rollout that the spec asks for: the stored one, or a new one when the target changed or the administrator resumed
/// one that had halted. Nodes in flight are carried over.
pub fn current(scope: &Scope<'_>, target: &RevisionId) -> Rollout {
    let driver = scope.driver;
    let to = (!driver.deleting).then(|| target.clone());
    let stored = driver.status.rollout.as_ref();
    let resumed = |stored: &Rollout| stored.halted.is_some() && driver.resume.as_deref() == Some(stored.id.as_str());
    match stored {
        Some(stored) if stored.to == to && !resumed(stored) => stored.clone(),
        _ => Rollout {
            id: name(to.as_ref(), scope.now),
            from: driver.status.current_revision.clone(),
            to,
            started_at: scope.now,
            eta: None,
            in_flight: stored.map(|stored| stored.in_flight.clone()).unwrap_or_default(),
            failed: Vec::new(),
            halted: None,
        },
    }
}

fn name(to: Option<&RevisionId>, at: Timestamp) -> String {
    let what = to.map_or("teardown", RevisionId::as_str);
    format!("{what}-{:x}", at.as_millisecond())
}

/// Takes nodes off the ledger that have settled or are gone, notes failures, and halts when there are too many.
pub fn settle(scope: &Scope<'_>, rollout: &mut Rollout, members: &[Member<'_>]) {
    rollout.in_flight.retain(|entry| {
        let Some(member) = members.iter().find(|member| member.node.name == entry.node && member.node.uid == entry.uid)
        else {
            return false;
        };
        // By what is stored, not by what this plan wants to store.
        match member.node.rollout() {
            // Its record was deleted and is made again, unless the node is being let go.
            None => !(scope.driver.deleting && scope.driver.orphan),
            Some(record) if drift::rests(record) => {
                record.attempt + 1 == entry.attempt
                    && drift::needs_transaction(scope.world, member.node, record, member.wanted.as_ref())
            }
            Some(record) => record.attempt == entry.attempt || record.attempt + 1 == entry.attempt,
        }
    });
    for member in members {
        let failure = member.record.as_ref().and_then(|record| record.failure.as_ref());
        let Some(failure) = failure.filter(|failure| failure.rollout == rollout.id) else { continue };
        if !rollout.failed.iter().any(|failed| failed.node == member.node.name) {
            let message = format!("{}: {}", failure.phase, failure.message);
            rollout.failed.push(FailedNode { node: member.node.name.clone(), message, at: failure.at });
        }
    }
    let limit = usize::try_from(scope.driver.spec.update_strategy.max_failed).unwrap_or(1).max(1);
    if rollout.halted.is_none() && rollout.failed.len() >= limit {
        let names: Vec<&str> = rollout.failed.iter().map(|failed| failed.node.as_str()).collect();
        let message = format!(
            "the driver failed on {} ({}); nothing new is admitted. Mend the cause, then annotate the CXIDriver with \
             {}={} or change spec.version",
            names.join(", "),
            rollout.failed[0].message,
            cxi_api::names::RESUME_ANNOTATION,
            rollout.id,
        );
        rollout.halted = Some(Halt { message, at: scope.now });
    }
}
