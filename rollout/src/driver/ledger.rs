//! The ledger of a rollout: which nodes are in flight, which failed, whether it halted. It is stored in the CXIDriver's
//! status and written with a compare-and-swap before any node is touched.

use cxi_api::{
    RevisionId, Timestamp,
    driver_status::{FailedNode, Halt, Rollout},
};

use crate::{
    driver::scope::{Member, Scope},
    maps::Set,
    node::drift,
    text,
    world::Node,
};

/// Place that the nodes in flight may take in the status of a CXIDriver, in bytes: 290 nodes with names of 14 characters, 108 with the
/// longest. The whole status has to stay far below what etcd takes (1.5 MB), because without a status no node can be moved, and it is
/// written for each node that comes and goes.
const MOST: usize = 40 * 1024;

/// An entry as JSON without the node's name and UID: the keys, a number of up to ten digits, and a time.
const ENTRY: usize = 90;

/// What a node waits for when the ledger is full.
pub const FULL: &str = "the node waits until fewer nodes are in flight: the ledger in the CXIDriver's status is full";

/// Failed nodes that are named, at most.
const NAMED: usize = 16;

/// Longest words on a failed node, in bytes.
const WORDS: usize = 256;

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
            failed_nodes: 0,
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
    // The nodes of a driver are in the order of their names.
    let place = |name: &str| members.binary_search_by(|member| member.node.name.as_str().cmp(name)).ok();
    rollout.in_flight.retain(|entry| {
        let member = place(&entry.node).map(|place| &members[place]).filter(|member| member.node.uid == entry.uid);
        let Some(member) = member else { return false };
        // By what is stored, not by what this plan wants to store.
        match member.node.rollout() {
            // Its record was deleted and is made again, unless the node is being let go.
            None => !(scope.driver.deleting && scope.driver.orphan),
            Some(record) if drift::rests(record) => {
                record.next_attempt() == entry.attempt
                    && drift::needs_transaction(scope.world, member.node, record, member.wanted.as_ref())
            }
            Some(record) => [record.attempt, record.next_attempt()].contains(&entry.attempt),
        }
    });
    note_failures(rollout, members);
    let limit = i64::from(scope.intent.strategy.max_failed.get());
    if rollout.halted.is_none() && i64::from(rollout.failed_nodes) >= limit {
        let names = text::some(rollout.failed.iter().map(|failed| failed.node.as_str()));
        let why = rollout.failed.first().map(|failed| failed.message.as_str()).unwrap_or_default();
        let message = format!(
            "the operator admits no more nodes. Remove the cause, then annotate the CXIDriver with {}={} or change spec.version. The \
             driver failed on {names}: {why}",
            cxi_api::names::RESUME_ANNOTATION,
            rollout.id,
        );
        rollout.halted = Some(Halt { message: text::cut(message, text::RECORD), at: scope.now });
    }
}

/// Notes the nodes on which the driver failed, and how many they are. The records of the nodes say so themselves until a node succeeds;
/// those that do not fit into the list are counted by them.
fn note_failures(rollout: &mut Rollout, members: &[Member<'_>]) {
    let known: Set<String> = rollout.failed.iter().map(|failed| failed.node.clone()).collect();
    let mut nodes = known.len();
    for member in members.iter().filter(|member| !known.contains(&member.node.name)) {
        let failure = member.record().and_then(|record| record.failure.as_ref());
        let Some(failure) = failure.filter(|failure| failure.rollout == rollout.id) else { continue };
        nodes += 1;
        if rollout.failed.len() < NAMED {
            let phase = failure.phase.map(|phase| format!("{phase}: ")).unwrap_or_default();
            let message = text::cut(format!("{phase}{}", failure.message), WORDS);
            rollout.failed.push(FailedNode { node: member.node.name.clone(), message, at: failure.at });
        }
    }
    rollout.failed_nodes = rollout.failed_nodes.max(i32::try_from(nodes).unwrap_or(i32::MAX));
}

/// The names in the ledger.
pub fn names(rollout: &Rollout) -> Set<&str> {
    rollout.in_flight.iter().map(|entry| entry.node.as_str()).collect()
}

/// What is left of the place that the ledger may take.
pub struct Room(usize);

impl Room {
    /// The place that the nodes in flight leave.
    pub fn left_by(rollout: &Rollout) -> Self {
        let taken = rollout.in_flight.iter().map(|entry| size(&entry.node, &entry.uid)).sum();
        Self(MOST.saturating_sub(taken))
    }

    /// Whether these nodes fit, too.
    pub fn fits<'a>(&self, nodes: impl Iterator<Item = &'a Node>) -> bool {
        nodes.map(|node| size(&node.name, &node.uid)).sum::<usize>() <= self.0
    }

    /// Another node is in flight.
    pub fn take(&mut self, node: &Node) {
        self.0 = self.0.saturating_sub(size(&node.name, &node.uid));
    }
}

/// An entry as JSON, at most.
fn size(name: &str, uid: &str) -> usize {
    ENTRY + name.len() + uid.len()
}
