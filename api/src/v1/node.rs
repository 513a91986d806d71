//! `CXINode`: a node's place in a rollout, and what the agent sees there. Same name as the Node, which owns it by UID.

#![allow(clippy::duplicated_attributes, reason = "each printer column repeats the word type_")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IntoDeserializer as _, value},
};

use crate::{
    Timestamp,
    blocker::{self, Blocker},
    node_report::NodeReport,
    outcome::Outcome,
    phase::Phase,
    preflight::Trial,
    revision::RevisionId,
    transaction::{self, Check, Transaction, Wait, Why},
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
    /// The node's place in the rollout. At rest: `UpToDate`, `Pending` (waits to be admitted), `Quarantined` (out of service). In order of
    /// an upgrade: `Admitted` (images are pulled), `Waiting` (pods end by themselves), `Closing` (the device plugin goes), `Evicting`,
    /// `Quiesced` (the operator proves that the device is free), `Unloading`, `Loading`, `Verifying`, `Validating` (the site's test runs),
    /// `Returning` (NICs are offered again). `RollingBack`: the new revision failed, and the previous one comes back.
    pub phase: Phase,
    /// When the phase began, by the operator's clock.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    /// Evidence (looks, reports) counts for this phase if it is newer than this; absent means `since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub evidence_since: Option<Timestamp>,
    /// Number of the last transaction on this node; 0 before the first.
    #[serde(default)]
    pub attempt: i32,
    /// What the device plugin of this node offers.
    #[serde(default)]
    pub advertise: Advertise,
    /// The transaction under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Transaction>,
    /// The verification under way outside a transaction; absent while there is a transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// What the node showed with the release that a CXIPreflight asked about last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// What the node waits for, in words. The operator writes it for you and never reads it to decide.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "blocker::known")]
    pub blocked_by: Option<Blocker>,
    /// What the node waits for, where a time limit depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "transaction::known")]
    pub wait: Option<Wait>,
    /// Boot that this status speaks of: what was verified or begun in another boot counts for nothing.
    #[serde(rename = "bootID", default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// What the image of the transaction's goal, or of the node's revision, says its modules are.
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
    /// The last failure of the driver on this node; kept until a revision other than the failed one is wanted or the node
    /// succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The pause before the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Value of the node label `cxi.hpe.com/upgrade` that was last acted upon, so that a request counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
    /// The last error, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What became of earlier transactions, newest last, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable")]
    pub history: Vec<HistoryEntry>,
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
    #[serde(rename = "buildIDs", default)]
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

/// A pause before a node is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Not before this time is the node tried again.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub until: Timestamp,
    /// What kept the node the last time.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "blocker::known")]
    pub because: Option<Blocker>,
}

/// A failure of the driver on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Revision that failed.
    pub revision: RevisionId,
    /// Rollout in which it failed; another rollout may try again.
    pub rollout: String,
    /// Whether it failed in a preflight: that says nothing of a rollout.
    #[serde(rename = "inPreflight", default, skip_serializing_if = "std::ops::Not::not")]
    pub in_preflight: bool,
    /// Phase in which it failed; absent where a newer operator wrote one that this one does not know.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_phase")]
    #[schemars(with = "Phase")]
    pub phase: Option<Phase>,
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

/// The phase of a failure, or nothing where this operator does not know it. It only informs.
fn known_phase<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Phase>, D::Error> {
    let Some(word) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let phase: Result<Phase, value::Error> = Phase::deserialize(word.into_deserializer());
    Ok(phase.ok())
}

/// The entries of a history that can be read. Without one a node has a revision less that it can go back to.
fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HistoryEntry>, D::Error> {
    let entries = Option::<Vec<serde_json::Value>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(entries.into_iter().filter_map(|entry| HistoryEntry::deserialize(entry).ok()).collect())
}

// === impl NodeRollout ===

impl NodeRollout {
    /// Number of the transaction after the last one. Counting begins anew after the last number that can be written.
    pub fn next_attempt(&self) -> i32 {
        self.attempt.checked_add(1).unwrap_or(1)
    }

    /// Looks and reports count for the present phase if they are newer than this.
    pub fn evidence_from(&self) -> Timestamp {
        self.evidence_since.unwrap_or(self.since)
    }

    /// Revision that the transaction or the verification under way brings the node to.
    pub fn goal(&self) -> Option<&RevisionId> {
        match (&self.transaction, &self.check) {
            (Some(transaction), _) => transaction.goal.as_ref(),
            (None, check) => check.as_ref().map(|check| &check.revision),
        }
    }

    /// Revision that the node goes back to if the transaction under way fails.
    pub fn from(&self) -> Option<&RevisionId> {
        self.transaction.as_ref()?.from.as_ref()
    }

    /// Why the transaction under way exists.
    pub fn why(&self) -> Option<Why> {
        self.transaction.as_ref().map(|transaction| transaction.why)
    }

    /// What the node had before it was closed, in the transaction under way or in one that was taken back.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match (&self.transaction, &self.check) {
            (Some(transaction), _) => transaction.snapshot.as_ref(),
            (None, check) => check.as_ref()?.snapshot.as_ref(),
        }
    }

    /// Whether the transaction under way takes the driver off the node for good.
    pub fn is_taken_down(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.goal.is_none())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn record() -> Value {
        json!({
            "driver": "cxi", "phase": "Waiting", "since": "2026-01-01T00:00:00Z", "advertise": "InUse",
            "transaction": {"why": "Wanted", "goal": "0123abcd"}, "wait": {"for": "Kubelet", "since": "2026-01-01T00:00:00Z"},
            "blockedBy": {"reason": "PodsRunning", "message": "m", "since": "2026-01-01T00:00:00Z"},
            "failure": {"revision": "0123abcd", "rollout": "r", "phase": "Loading", "message": "m", "at": "2026-01-01T00:00:00Z"},
            "history": [
                {"revision": "0123abcd", "result": "Verified", "started": "2026-01-01T00:00:00Z", "at": "2026-01-01T00:00:00Z"},
                {"revision": "4567cdef", "result": "RolledBack", "started": "2026-01-01T00:00:00Z", "at": "2026-01-01T00:00:00Z"},
            ],
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
        assert!(read.wait.is_some());
        assert_eq!(with("/wait/for", "TheSun").unwrap().wait, None);
    }

    #[test]
    fn what_only_informs_is_left_out_where_a_newer_operator_wrote_it() {
        assert_eq!(with("/failure/phase", "Loading").unwrap().failure.unwrap().phase, Some(Phase::Loading));
        let failure = with("/failure/phase", "SolarFlare").unwrap().failure.unwrap();
        assert_eq!((failure.phase, failure.revision.as_str()), (None, "0123abcd"));
        // As it is written again, the API server takes it: its list of phases is closed.
        assert_eq!(serde_json::to_value(&failure).unwrap().get("phase"), None);

        let known = |read: NodeRollout| read.history.into_iter().map(|entry| entry.result).collect::<Vec<_>>();
        assert_eq!(known(with("/phase", "Waiting").unwrap()), [Outcome::Verified, Outcome::RolledBack]);
        let soaked = Outcome::Unknown("Soaked".to_owned());
        assert_eq!(known(with("/history/0/result", "Soaked").unwrap()), [soaked, Outcome::RolledBack]);
        for pointer in ["/history/0/revision", "/history/0/at", "/history/0"] {
            assert_eq!(known(with(pointer, "SolarFlare").unwrap()), [Outcome::RolledBack], "{pointer}");
        }
    }

    /// What they mean decides what is done with the node: such a record is not guessed at.
    #[rstest]
    #[case("/phase")]
    #[case("/transaction/why")]
    #[case("/advertise")]
    #[case("/since")]
    #[case("/blockedBy/since")]
    #[case("/failure/revision")]
    fn any_other_word_of_a_newer_operator_makes_the_record_unreadable(#[case] pointer: &str) {
        with(pointer, "SolarFlare").unwrap_err();
    }
}
