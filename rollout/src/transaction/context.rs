//! What a step of one node may look at, and what is asked of it again and again.

use std::{cell::Cell, sync::Arc, time::Duration};

use cxi_api::{
    CXIDriverSpec, NodeRollout, Phase, RevisionId, Timestamp, Why,
    driver_status::{InFlight, Rollout},
    names::Role,
    transaction::Work,
};

use crate::{
    action::Announcement,
    evidence::proof::kmm_at_work,
    intent::{Intent, Strategy},
    node::{drift, gates, request::Request, retry_handler, seen::Seen},
    preflight::trial::OnTrial,
    settings::Settings,
    view::View,
    world::{Driver, ImageState, OwnPod, Revision},
};

/// How long a node that is not Ready may be so before a time limit that runs meanwhile counts.
pub const NODE_LOST: Duration = Duration::from_mins(30);

/// Everything that a step may look at.
pub struct Ctx<'a> {
    pub world: &'a View<'a>,
    pub driver: &'a Driver,
    /// What the CXIDriver asks for.
    pub intent: &'a Intent<'a>,
    pub node: &'a Seen<'a>,
    pub settings: &'a Settings,
    pub now: Timestamp,
    /// The rollout's ledger as stored.
    pub rollout: &'a Rollout,
    /// This node's entry in it.
    pub entry: Option<&'a InFlight>,
    /// Revision that this node should be on; `None` is no driver.
    pub wanted: Option<RevisionId>,
    /// The trial for which it should be on it, if it is one.
    pub trial: Option<OnTrial<'a>>,
    /// When something has to be looked at again.
    pub wake: &'a Cell<Option<Timestamp>>,
}

impl<'a> Ctx<'a> {
    pub fn strategy(&self) -> &'a Strategy<'a> {
        &self.intent.strategy
    }

    /// The name under which NICs are offered.
    pub fn resource(&self) -> &'a str {
        self.intent.resource
    }

    /// How much the kubelet offers under this name.
    pub fn allocatable(&self) -> i64 {
        self.node.allocatable
    }

    /// Time since `since`; zero when the clock went backwards, so that no timer fires early.
    pub fn elapsed(&self, since: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(since)).unwrap_or(Duration::ZERO)
    }

    /// Whether `limit` has passed since `since`; asks to be woken when it will have.
    pub fn due(&self, since: Timestamp, limit: Duration) -> bool {
        let due = self.elapsed(since) >= limit;
        if !due {
            self.wake_at(since.checked_add(limit).unwrap_or(Timestamp::MAX));
        }
        due
    }

    /// Like [`Self::due`], with patience for a node that is not Ready at the moment.
    pub fn due_on_node(&self, since: Timestamp, limit: Duration) -> bool {
        self.due(since, if self.node.ready { limit } else { limit + NODE_LOST })
    }

    pub fn wake_at(&self, at: Timestamp) {
        let sooner = self.wake.get().is_none_or(|wake| at < wake);
        if sooner {
            self.wake.set(Some(at));
        }
    }

    /// The revision that the spec describes.
    pub fn target(&self) -> &RevisionId {
        &self.intent.revision
    }

    /// The spec that describes a revision, as far as it is known: that of a trial, or the CXIDriver's.
    pub fn describing(&self, id: &RevisionId) -> Arc<CXIDriverSpec> {
        let trial = self.trial.filter(|trial| trial.candidate.revision == *id);
        trial.map_or(self.intent, |trial| trial.candidate).for_manifests()
    }

    /// The Module of a revision; none for a revision that the host brings.
    pub fn revision(&self, id: &RevisionId) -> Option<&'a Revision> {
        self.world.revision(&self.driver.name, id)
    }

    /// Whether a revision stands for the driver that the host brings: what the spec describes now, or what it described when the
    /// node was verified with it.
    pub fn is_of_host(&self, record: &NodeRollout, id: &RevisionId) -> bool {
        let described = self.is_preinstalled() && self.wanted.as_ref() == Some(id);
        described && self.revision(id).is_none() || self.world.was_of_host(record, id)
    }

    /// Whether the only version label of KMM on the node is that of `goal`; of a driver that the host brings, that there is none.
    pub fn is_labelled(&self, goal: &RevisionId) -> bool {
        let labels = &self.node.kmm.versions;
        if self.revision(goal).is_none() { labels.is_empty() } else { labels.only() == Some(goal.as_str()) }
    }

    pub fn pod(&self, role: Role) -> Option<&'a OwnPod> {
        self.node.pods.iter().find(|pod| pod.role == role && pod.driver == self.driver.name)
    }

    /// What of the operands the gates depend on.
    pub fn operands(&self) -> gates::Operands<'a> {
        gates::Operands {
            plugin: self.intent.offer.is_some(),
            retry_handler: self.intent.retry_handler.on_nodes().is_some(),
            node: self.node,
        }
    }

    /// Whether the host brings the driver of the revision that is wanted.
    pub fn is_preinstalled(&self) -> bool {
        self.intent.is_preinstalled()
    }

    /// The revision by whose label KMM loads on this node; none when there is no label, or several.
    pub fn labelled_revision(&self) -> Option<RevisionId> {
        self.node.kmm.versions.only()?.parse().ok()
    }

    /// What is left to do for the transaction of a record. The driver stays where the host brings it, and where only the retry handler
    /// is another.
    pub fn work_left(&self, record: &NodeRollout) -> Work {
        let retry_handler = retry_handler::differ(self.world, self.driver, self.node);
        let Some((transaction, goal)) = record.transaction.as_ref().and_then(|all| Some((all, all.goal.as_ref()?)))
        else {
            return Work { driver: true, retry_handler };
        };
        let namespace = &self.world.namespace;
        let left = self.node.kmm.versions.is_empty() && kmm_at_work(self.node, namespace).is_none();
        let by_host = self.is_preinstalled() && left;
        let stays = by_host || !transaction.work.driver && self.is_labelled(goal);
        Work { driver: !stays, retry_handler }
    }

    /// See [`drift::needs_repair`].
    pub fn needs_repair(&self, record: &NodeRollout) -> bool {
        drift::needs_repair(self.world, self.node, record)
    }

    /// See [`drift::needs_transaction`].
    pub fn needs_transaction(&self, record: &NodeRollout) -> bool {
        drift::needs_transaction(self.world, self.node, record, self.wanted.as_ref())
    }

    /// Whether the present transaction's target has not changed and nothing calls it off.
    pub fn still_wanted(&self, record: &NodeRollout) -> bool {
        let asked = Request::Retry.is_handled(record);
        let Some(transaction) = &record.transaction else { return false };
        let forward = transaction.why == Why::Wanted && transaction.goal.is_some();
        let halted = self.rollout.halted.is_some() && forward && !asked;
        // The request was taken back before anything was taken away.
        let untouched = matches!(record.phase, Phase::Admitted | Phase::Waiting);
        let idle = !transaction.work.driver && untouched && !retry_handler::differ(self.world, self.driver, self.node);
        // A node that goes back from what is wanted does so until something else is wanted.
        let failed = record.failure.as_ref().filter(|_| transaction.why == Why::Rollback);
        let goes_back = failed.is_some_and(|failure| {
            Some(&failure.revision) == self.wanted.as_ref() || !self.can_be_had(self.wanted.as_ref())
        });
        (transaction.goal == self.wanted || goes_back) && !halted && !idle
    }

    /// Whether a transaction brings in what is no longer wanted, while what is wanted can be had. A rollback is not
    /// judged by what is wanted.
    pub fn is_overtaken(&self, record: &NodeRollout) -> bool {
        let forward = record.why() != Some(Why::Rollback);
        forward && record.goal() != self.wanted.as_ref() && self.can_be_had(self.wanted.as_ref())
    }

    /// Whether a revision can be loaded on this node, as far as KMM knows; nothing and the host's driver always can.
    pub fn can_be_had(&self, revision: Option<&RevisionId>) -> bool {
        let Some(id) = revision else { return true };
        let image = self.revision(id).and_then(|revision| revision.images.get(&self.node.kernel));
        self.is_preinstalled() || image.is_some_and(|image| image.state == ImageState::Exists)
    }

    pub fn announce(&self, warning: bool, reason: &str, message: String) -> Announcement {
        Announcement {
            driver: self.driver.name.clone(),
            node: Some(self.node.name.clone()),
            warning,
            reason: reason.into(),
            message,
        }
    }
}
