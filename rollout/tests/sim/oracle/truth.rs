//! I11 liveness and I12 the truth: what is said fits what is so, and nobody waits for nothing. And the end of things:
//! Modules and finalizers go last.

use cxi_api::{CXIDriverStatus, Phase, RevisionId, driver::SourceType, names::DRIVER_LABEL};
use cxi_rollout::world::Node;

use crate::sim::{Seen, Sim, apply::version_labels};

impl Sim {
    /// `Available=True` means that every node is verified.
    pub(super) fn check_available(&mut self, name: &str, status: &CXIDriverStatus, seen: &Seen) {
        let said = status.conditions.iter().any(|c| c.type_ == "Available" && c.status == "True");
        if !said {
            return;
        }
        let mine = seen.nodes.values().filter(|node| node.labels.get(DRIVER_LABEL).map(String::as_str) == Some(name));
        let unverified: Vec<&str> = mine
            .filter(|node| node.rollout().is_none_or(|record| record.revision.is_none()))
            .map(|node| node.name.as_str())
            .collect();
        self.demand(unverified.is_empty(), "I12", || {
            format!("{name} is Available, but {unverified:?} are not verified")
        });
    }

    /// Counters are recounts.
    pub(super) fn check_counters(&mut self) {
        for driver in self.api.drivers.clone() {
            let target = driver.spec.revision(&driver.name);
            let mine: Vec<Node> =
                self.api.nodes.values().filter(|n| n.labels.get(DRIVER_LABEL) == Some(&driver.name)).cloned().collect();
            let updated = mine
                .iter()
                .filter_map(Node::rollout)
                .filter(|r| r.phase == Phase::UpToDate || driver.deleting && r.phase == Phase::Pending)
                .filter(|r| r.revision.as_ref() == Some(&target))
                .count();
            let (total, updated) = (i32::try_from(mine.len()).unwrap(), i32::try_from(updated).unwrap());
            let status = &driver.status;
            self.demand((status.total, status.updated) == (total, updated), "I12", || {
                format!("{} says {}/{}, it is {updated}/{total}", driver.name, status.updated, status.total)
            });
            let flying =
                mine.iter().filter_map(Node::rollout).filter(|r| !r.phase.is_settled() && r.transaction.is_some());
            let flying = i32::try_from(flying.count()).unwrap();
            self.demand(status.updating == flying, "I12", || {
                format!("{} says {} in flight, it is {flying}", driver.name, status.updating)
            });
            self.check_up_to_date(&driver.name, driver.spec.source.kind, &mine);
        }
    }

    fn check_up_to_date(&mut self, driver: &str, source: SourceType, nodes: &[Node]) {
        for node in nodes {
            let Some(record) = node.rollout().filter(|record| record.phase == Phase::UpToDate) else { continue };
            let loaded = self.machines[&node.name].loaded.clone();
            let version = record.revision.as_ref().and_then(|revision| self.version_of(revision));
            let by_host = source == SourceType::Preinstalled || record.host_revision == record.revision;
            let fine = if by_host { loaded.is_some() } else { loaded == version };
            let name = &node.name;
            self.demand(fine, "I12", || format!("{driver}: {name} is UpToDate on {version:?}, it runs {loaded:?}"));
        }
    }

    /// I11: who is not up to date says why.
    pub(super) fn check_explained(&mut self) {
        for node in self.api.nodes.clone().values() {
            let Some(record) = node.rollout() else { continue };
            let released = record.target_revision.is_none() && record.revision.is_none();
            let fine = record.phase == Phase::UpToDate || record.blocked_by.is_some() || released;
            self.demand(fine, "I11", || format!("{} rests in {} and does not say why", node.name, record.phase));
            let silent = record.blocked_by.as_ref().is_some_and(|blocker| blocker.message.trim().is_empty());
            self.demand(!silent, "I11", || format!("{} has a blocker without words", node.name));
        }
    }

    /// KMM unloads a deleted Module everywhere at once: no node may carry its label.
    pub(super) fn check_module_deletion(&mut self, revision: &RevisionId, seen: &Seen) {
        let named = |node: &Node| version_labels(node).iter().any(|(_, value)| value == revision.as_str());
        let driver = self.api.revisions.iter().find(|known| known.id == *revision).map(|known| known.driver.clone());
        let users: Vec<String> = self
            .api
            .nodes
            .values()
            .filter(|node| named(node))
            // A label that was set after the operator had looked may name a Module that is about to be deleted.
            .filter(|node| {
                let before = seen.nodes.get(&node.name).filter(|before| before.uid == node.uid);
                !self.oracle.by_hand.contains(&node.name) || before.is_some_and(named)
            })
            // KMM passes over a label that somebody set on a node that the Module does not select.
            .filter(|node| {
                node.labels.get(DRIVER_LABEL) == driver.as_ref() || !self.oracle.by_hand.contains(&node.name)
            })
            .map(|node| node.name.clone())
            .collect();
        self.demand(users.is_empty(), "I2", || format!("Module {revision} is deleted under {users:?}"));
        // KMM does not notice that none is left when the last two go in the same moment.
        let going = self.api.revisions.iter().filter(|known| Some(&known.driver) == driver.as_ref() && known.deleting);
        let ends = driver.as_ref().and_then(|name| self.driver_named(name)).is_some_and(|driver| driver.deleting);
        let at_once = going.count();
        self.demand(!ends || at_once <= 1, "teardown", || format!("{at_once} Modules go at once"));
    }

    /// The finalizer goes last: nothing of the driver is left, but where KMM still loads it, which an orphaned one leaves so. A node
    /// that another operator has just claimed, on an older view, has nothing of it yet.
    pub(super) fn check_end(&mut self, driver: &str, seen: &Seen) {
        let orphaned = seen.drivers.iter().any(|known| known.name == driver && known.orphan);
        let owned = |node: &Node| node.labels.get(DRIVER_LABEL).is_some_and(|owner| owner == driver);
        let live = |(_, value): &(String, String)| {
            self.api.revisions.iter().any(|known| known.id.as_str() == value && !known.deleting)
        };
        let mut left = Vec::new();
        for node in self.api.nodes.values().filter(|node| owned(node)) {
            let labels = version_labels(node);
            let known = seen.nodes.get(&node.name).is_some_and(owned);
            // Somebody's hand may be quicker than any look.
            let by_hand = self.oracle.by_hand.contains(&node.name);
            let fine =
                if orphaned { labels.iter().any(live) || !known || by_hand } else { labels.is_empty() && !known };
            if !fine {
                left.push(node.name.clone());
            }
        }
        self.demand(left.is_empty(), "teardown", || format!("{driver} ends while it owns {left:?}"));
    }
}
