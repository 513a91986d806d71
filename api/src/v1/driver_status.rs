//! `CXIDriver.status`: the ledger of the rollout, counters and conditions. Written by the operator only.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Timestamp, revision::RevisionId};

/// What the operator says of a CXIDriver. Counters are recounts of the CXINodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CXIDriverStatus {
    /// metadata.generation that this status speaks of.
    pub observed_generation: i64,
    /// Driver release of currentRevision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Driver release of targetRevision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_version: Option<String>,
    /// The last revision on which every selected node was verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<RevisionId>,
    /// The revision that spec describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_revision: Option<RevisionId>,
    /// Selected nodes.
    pub total: i32,
    /// Nodes verified on targetRevision.
    pub updated: i32,
    /// Nodes verified on any revision and offering their NICs.
    pub ready: i32,
    /// Nodes in flight.
    pub updating: i32,
    /// Nodes on which targetRevision failed.
    pub failed: i32,
    /// Nodes that wait for something that the operator cannot change.
    pub blocked: i32,
    /// How the CXIDriver is doing, in one word: `Ready`, `Updating`, `Paused`, `Frozen`, `Blocked`, `RolledBack`, `Degraded`,
    /// `Halted`, `Conflict`, `NoNodes` or `Deleting`. The conditions say more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The rollout under way, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Namespace of the operator that looks after this CXIDriver. One in another namespace changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// Resource names under which NICs were offered and pods may still hold them: devicePlugin.resourceName, and earlier names as
    /// long as any pod of the cluster requests them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Images that retryHandler.mode sidecar puts into pods; absent in other modes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<SidecarImages>,
    /// The state in single statements: `Available`, `Progressing`, `Degraded`, `Halted`, `Blocked`, `Conflict`,
    /// `PreflightPassed`, and one per operand: `DevicePluginReady`, `AgentReady`, `RetryHandlerReady`, `MetricsExporterReady`;
    /// `OperandsUpdated` says whether all of them run their present template.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Images of the retry handler in pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarImages {
    /// Image with the program that supervises retry handlers.
    pub agent: String,
    /// Image with the retry handler itself; absent when it is in the other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_handler: Option<String>,
}

/// A rollout, with the ledger of admitted nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Name of this rollout; a resumed rollout has a new one.
    pub id: String,
    /// Revision that the nodes come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RevisionId>,
    /// Revision that the nodes go to; absent when the driver is being taken down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<RevisionId>,
    /// When it began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started_at: Timestamp,
    /// When it is expected to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub eta: Option<Timestamp>,
    /// The ledger: nodes that were admitted and have not settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<InFlight>,
    /// Nodes on which the driver failed in this rollout, at most 16 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedNode>,
    /// How many nodes the driver failed on in this rollout.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_nodes: i32,
    /// Set when the rollout halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Halt>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// Node name.
    pub node: String,
    /// UID of the Node: a node that was recreated under the same name is another node.
    pub uid: String,
    /// Which try of this node it is, from 1.
    pub attempt: i32,
    /// When it was admitted.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub admitted_at: Timestamp,
}

/// A node on which the driver failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedNode {
    /// Node name.
    pub node: String,
    /// What failed.
    pub message: String,
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
}

/// Why and when a rollout halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Halt {
    /// Why, and what to do.
    pub message: String,
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
}
