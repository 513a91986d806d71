//! What is under way on a node: a transaction, or a verification outside of one; and what it waits for, as far as time limits and
//! decisions depend on it.

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IntoDeserializer as _, value},
};

use crate::{
    Timestamp,
    node::{EvictionRecord, Snapshot},
    revision::RevisionId,
};

/// A node transaction under way. Budget, order, drain, gates and proofs are the same for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// Why it exists. Wanted: the CXIDriver asks for it. Preflight: a CXIPreflight tries a release on the node. Rollback: the new revision
    /// failed, or an administrator asked for the previous one. Repair: another client changed labels on the node.
    pub why: Why,
    /// Revision that the node will be on; absent when its driver is only unloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<RevisionId>,
    /// What it changes on the node.
    #[serde(default)]
    pub work: Work,
    /// Revision that the node goes back to if `goal` fails; set while its driver is being replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RevisionId>,
    /// When the node was closed, by the operator's clock: from then on it offers nothing. What happens between that and the unload has
    /// one deadline together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub closed_at: Option<Timestamp>,
    /// What the node had before it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Pods that it set out to evict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evictions: Vec<EvictionRecord>,
}

/// Why a node transaction exists. What it does to the node is its [`Work`]; where it ends is its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Why {
    /// The CXIDriver wants it: another revision (the first one included), another retry handler, or no driver.
    Wanted,
    /// A CXIPreflight tries a release on the node, which the CXIDriver does not ask for.
    Preflight,
    /// The new revision failed, or an administrator asked for the previous one.
    Rollback,
    /// Another client changed labels on the node.
    Repair,
}

/// What a transaction changes on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// The driver is unloaded, and that of the goal is loaded.
    #[serde(default, skip_serializing_if = "is_false")]
    pub driver: bool,
    /// The retry handler is replaced.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retry_handler: bool,
}

/// What work takes from a node's jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disruption {
    /// Nothing: they go on.
    None,
    /// The node is closed, and no pod holds a NIC.
    Drain,
}

impl Work {
    /// What has to be taken from the node's jobs for it.
    pub fn needs(self) -> Disruption {
        if self.driver || self.retry_handler { Disruption::Drain } else { Disruption::None }
    }
}

impl Transaction {
    /// Gives the transaction another end. The driver is exchanged for it.
    pub fn aim(&mut self, goal: Option<RevisionId>) {
        self.goal = goal;
        self.work.driver = true;
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A verification outside a transaction: after a reboot, after a transaction was taken back, or because the record was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Revision that the node seems to be on.
    pub revision: RevisionId,
    /// What the node had before the transaction that was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

/// What a node waits for, where a time limit or a later decision depends on it. `blockedBy` says the same in words, and no decision
/// depends on words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// What for.
    #[serde(rename = "for")]
    pub what: WaitFor,
    /// What exactly: the UID of a pod, or names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// Since when, by the operator's clock.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
}

/// What a node can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WaitFor {
    /// The node is not Ready; the phase begins again when it is.
    NodeReady,
    /// A one-shot pod that the kubelet did not run: it is deleted after a while, and the step begins again.
    PodNotRun,
    /// A one-shot pod that gave an answer that does not help: it is deleted after a while, and another one is started.
    PodAnswer,
    /// The kubelet, which has neither accepted nor refused pods.
    Kubelet,
    /// The retry handler, which has not ended yet.
    RetryHandler,
    /// A worker of KMM's that cannot unload the driver.
    KmmUnload,
    /// Modules that are in the kernel after KMM has unloaded the driver.
    Leftovers,
    /// The modules of a driver that are loaded although others should be.
    RightModules,
}

/// What a node waits for, or nothing where a newer operator has written a word that this one does not know: the wait begins again with
/// what this operator finds.
pub(crate) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Wait>, D::Error> {
    #[derive(Deserialize)]
    struct Read {
        #[serde(rename = "for")]
        what: String,
        #[serde(default)]
        object: String,
        since: Timestamp,
    }
    let Some(Read { what, object, since }) = Option::<Read>::deserialize(deserializer)? else { return Ok(None) };
    let what: Result<WaitFor, value::Error> = WaitFor::deserialize(what.into_deserializer());
    Ok(what.ok().map(|what| Wait { what, object, since }))
}
