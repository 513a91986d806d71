//! `CXINode`: a node's place in a rollout, and what the agent sees there. Same name as the Node, which owns it by UID.

#![allow(clippy::duplicated_attributes, reason = "each printer column repeats the word type_")]

use std::{collections::BTreeMap, fmt};

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    blocker::{self, Blocker},
    node_report::NodeReport,
    outcome::Outcome,
    revision::RevisionId,
};

/// A CXINode has no settings; it exists while a CXIDriver owns the node.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cxi.hpe.com",
    version = "v1",
    kind = "CXINode",
    plural = "cxinodes",
    shortname = "cxin",
    category = "cxi",
    status = "CXINodeStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A CXINode shows where a node is in a driver rollout, what it waits for, and what its agent sees: loaded modules, NICs, open devices.",
    printcolumn(
        name = "Driver",
        type_ = "string",
        json_path = ".status.rollout.driver",
        description = "CXIDriver that owns the node"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.rollout.phase",
        description = "Place in the rollout"
    ),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".status.rollout.revision",
        description = "Revision last verified on the node"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.rollout.version",
        description = "Driver release of that revision"
    ),
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".status.rollout.targetRevision",
        description = "Revision wanted"
    ),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = ".status.rollout.since",
        description = "Since when in this phase"
    ),
    printcolumn(
        name = "BlockedBy",
        type_ = "string",
        json_path = ".status.rollout.blockedBy.reason",
        description = "What it waits for"
    ),
    printcolumn(
        name = "Attempt",
        type_ = "integer",
        json_path = ".status.rollout.attempt",
        description = "Number of the last transaction on the node"
    )
)]
pub struct CXINodeSpec {}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CXINodeStatus {
    /// The node's place in a rollout. Written by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<NodeRollout>,
    /// What the agent sees on the node. Written by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeReport>,
}

/// A node's place in a rollout. Every timer is one of these timestamps: nothing that matters is kept in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRollout {
    /// CXIDriver that owns the node.
    pub driver: String,
    /// Revision last verified on the node; absent before the first and after an unload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionId>,
    /// Driver release of `revision`; absent where the host brings the driver, because nothing tells its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Revision that the node should be on; absent when the driver is being taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_revision: Option<RevisionId>,
    /// Revision that the transaction in flight loads; absent when it only unloads, and outside a transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<RevisionId>,
    /// Revision that the node goes back to if `goal` fails; set while its driver is being replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RevisionId>,
    /// Why the transaction in flight exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Phase.
    pub phase: Phase,
    /// When the phase began, by the operator's clock.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    /// Evidence (looks, reports) counts for this phase if it is newer than this; absent means `since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub evidence_since: Option<Timestamp>,
    /// When the node was closed in this transaction, by the operator's clock: from then on it offers nothing. What happens between
    /// that and the unload has one deadline together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub closed_at: Option<Timestamp>,
    /// Number of the last transaction on this node; 0 before the first.
    #[serde(default)]
    pub attempt: i32,
    /// What the device plugin of this node offers.
    #[serde(default)]
    pub advertise: Advertise,
    /// What the node waits for.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "blocker::known")]
    pub blocked_by: Option<Blocker>,
    /// Boot that this status speaks of: what was verified or begun in another boot counts for nothing.
    #[serde(rename = "bootID", default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// What the node had before it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// What the image of `goal` says its modules are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// What the image of the revision before said: by it the agent names the driver that still runs, or runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Expected>,
    /// Revision with which the driver that the host brings was verified last. It has no Module, and the node can go back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_revision: Option<RevisionId>,
    /// Images of the retry handler by the revision that they ran with last on this node, newest last, at most three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_handlers: Vec<Served>,
    /// Pods that this transaction set out to evict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evictions: Vec<EvictionRecord>,
    /// The last failure of the driver on this node; kept until a revision other than the failed one is wanted or the node
    /// succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Not before this time is the node tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub retry_after: Option<Timestamp>,
    /// Value of the node label `cxi.hpe.com/upgrade` that was last acted upon, so that a request counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
    /// The last error, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What became of earlier transactions, newest last, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
}

/// Place of a node in a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Verified on the wanted revision and in service.
    UpToDate,
    /// Not on the wanted revision; waits for admission.
    #[default]
    Pending,
    /// Admitted: the image is being pulled, nothing was taken away yet.
    Admitted,
    /// Waits for its pods to end; offers only the NICs in use.
    Waiting,
    /// The device plugin is being taken away.
    Closing,
    /// Pods that hold a NIC are being evicted.
    Evicting,
    /// No pod and no process seems to hold a NIC; the operator proves it.
    Quiesced,
    /// KMM takes the old driver out.
    Unloading,
    /// KMM puts the new driver in.
    Loading,
    /// Evidence from the node is awaited.
    Verifying,
    /// NICs are being offered again.
    Returning,
    /// The new revision failed; the operator prepares the node for the rollback.
    RollingBack,
    /// Out of service until an administrator or a new revision helps.
    Quarantined,
}

/// What a node's device plugin offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Advertise {
    /// Every healthy NIC.
    #[default]
    All,
    /// Only NICs that are allocated: nothing new fits, and holders survive a kubelet restart.
    InUse,
    /// Nothing.
    None,
}

/// Why a node transaction exists. Budget, order, drain, gates and proofs are the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cause {
    /// The wanted revision is another one (first installation included).
    Revision,
    /// The new revision failed, or an administrator asked for the previous one.
    Rollback,
    /// Another client changed labels on the node.
    Repair,
    /// Another retry handler is wanted; the driver stays loaded.
    RetryHandler,
    /// The driver is taken off the node.
    Teardown,
}

/// What a node had before it was closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// PCI addresses of the NICs.
    #[serde(default)]
    pub devices: Vec<String>,
    /// PCI addresses of the NICs whose link was up.
    #[serde(default)]
    pub links_up: Vec<String>,
    /// Build-id by module name.
    #[serde(default)]
    pub build_ids: BTreeMap<String, String>,
}

/// What a driver image says its modules are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// Revision of the image.
    pub revision: String,
    /// Kernel of the image.
    pub kernel: String,
    /// Driver release by the image's manifest; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// Build-id by module name; empty for a foreign image without a manifest.
    #[serde(rename = "buildIDs", default)]
    pub build_ids: BTreeMap<String, String>,
}

/// The retry handler that ran with a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Served {
    /// Revision.
    pub revision: RevisionId,
    /// Image.
    pub image: String,
}

/// A pod that a transaction set out to evict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvictionRecord {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; a pod of the same name with another UID is another pod.
    pub uid: String,
}

/// A failure of the driver on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Revision that failed.
    pub revision: RevisionId,
    /// Rollout in which it failed; another rollout may try again.
    pub rollout: String,
    /// Phase in which it failed.
    pub phase: Phase,
    /// What happened.
    pub message: String,
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// Revision that was to be loaded; absent for a teardown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionId>,
    /// `Verified`, `RolledBack`, `Unloaded`, `GivenBack`, `CalledOff`, or what failed.
    pub result: Outcome,
    /// When it was admitted.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started: Timestamp,
    /// When it ended.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
}

// === impl NodeRollout ===

impl NodeRollout {
    /// Looks and reports count for the present phase if they are newer than this.
    pub fn evidence_from(&self) -> Timestamp {
        self.evidence_since.unwrap_or(self.since)
    }
}

// === impl Phase ===

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 13] = [
        Self::UpToDate,
        Self::Pending,
        Self::Admitted,
        Self::Waiting,
        Self::Closing,
        Self::Evicting,
        Self::Quiesced,
        Self::Unloading,
        Self::Loading,
        Self::Verifying,
        Self::Returning,
        Self::RollingBack,
        Self::Quarantined,
    ];

    /// Whether a transaction in this phase can be taken back without a driver reload.
    pub fn is_cancellable(self) -> bool {
        matches!(self, Self::Admitted | Self::Waiting | Self::Closing | Self::Evicting | Self::Quiesced)
    }

    /// Whether the node rests: no transaction is under way.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::UpToDate | Self::Pending | Self::Quarantined)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn record() -> Value {
        json!({
            "driver": "cxi", "phase": "Waiting", "since": "2026-01-01T00:00:00Z", "cause": "Revision", "advertise": "InUse",
            "blockedBy": {"reason": "PodsRunning", "message": "m", "since": "2026-01-01T00:00:00Z"},
        })
    }

    fn with(pointer: &str, word: &str) -> Result<NodeRollout, serde_json::Error> {
        let mut record = record();
        *record.pointer_mut(pointer).unwrap() = word.into();
        serde_json::from_value(record)
    }

    #[test]
    fn a_reason_of_a_newer_operator_leaves_the_record_readable() {
        assert_eq!(with("/phase", "Waiting").unwrap().blocked_by.unwrap().reason, blocker::Reason::PodsRunning);
        let read = with("/blockedBy/reason", "SolarFlare").unwrap();
        assert_eq!((read.phase, read.blocked_by.is_none()), (Phase::Waiting, true));
        // As it is written again, the API server takes it: its list of reasons is closed.
        assert_eq!(serde_json::to_value(&read).unwrap().get("blockedBy"), None);
    }

    /// What they mean decides what is done with the node: such a record is not guessed at.
    #[rstest]
    #[case("/phase")]
    #[case("/cause")]
    #[case("/advertise")]
    #[case("/since")]
    #[case("/blockedBy/since")]
    fn any_other_word_of_a_newer_operator_makes_the_record_unreadable(#[case] pointer: &str) {
        with(pointer, "SolarFlare").unwrap_err();
    }
}
