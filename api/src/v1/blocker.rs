//! Why a node or a driver does not get on, in words for an administrator and in one word for machines.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IntoDeserializer as _, value},
};

use crate::Timestamp;

/// What holds a node back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blocker {
    /// The reason in one word.
    pub reason: Reason,
    /// The object in the way; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectInTheWay>,
    /// The reason in a sentence that says what would help.
    pub message: String,
    /// Since when.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
}

/// An object that holds a node back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectInTheWay {
    /// Kind: Pod, PodDisruptionBudget, Module, Process and so on.
    pub kind: String,
    /// Name, with the namespace where the object has one.
    pub name: String,
}

/// The reason in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// Other nodes use up `maxUnavailable`.
    Budget,
    /// `spec.paused`.
    Paused,
    /// `maxUnavailable: 0`.
    Frozen,
    /// `updateStrategy.type: OnDelete`, and you have not asked for this node.
    OnDelete,
    /// The node carries `cxi.hpe.com/upgrade=skip`.
    Skip,
    /// Label `cxi.hpe.com/upgrade` of the node has a value that means nothing.
    UnknownRequest,
    /// The node is to try a release for a CXIPreflight, and other nodes of the CXIDriver are being moved.
    Preflight,
    /// The validation pod tests the node.
    Validating,
    /// The node is not Ready.
    NotReady,
    /// Another client cordoned the node.
    Cordoned,
    /// A holder matches `drain.protectedPods`.
    ProtectedPod,
    /// A PodDisruptionBudget does not allow the evictions that the node needs.
    DisruptionBudget,
    /// More than one PodDisruptionBudget covers a holder; the Eviction API refuses such pods.
    MultipleDisruptionBudgets,
    /// A holder belongs to a DaemonSet, which would start it again at once.
    DaemonSetHolder,
    /// A holder is a static pod, which cannot be evicted.
    StaticPodHolder,
    /// A holder may take longer to end than `drain.maxGracePeriod` allows.
    LongGracePeriod,
    /// Pods that hold the device still run.
    PodsRunning,
    /// A pod does not end although its grace period is over.
    StuckTerminating,
    /// A process outside Kubernetes has the device open, or a kernel module uses the driver.
    HostHolder,
    /// The retry handler has the devices open and has not ended yet.
    RetryHandlerRunning,
    /// KMM has not yet verified an image of the new revision.
    ImageUnverified,
    /// An image of the new revision is not there.
    ImageMissing,
    /// A pod that the operator needs on the node has not run yet: the kubelet refused it or took it away, or its image could not be
    /// pulled in time. Another one is started after a pause.
    PodNotRun,
    /// The image of the revision that must be unloaded is not there any more.
    OldImageMissing,
    /// The rollout stopped after too many failures.
    Halted,
    /// The revision failed on this node.
    Failed,
    /// The node is given time after a try that was taken back.
    BackOff,
    /// The node was asked to go back, and no revision that worked on it is left.
    NoRollback,
    /// Another CXIDriver owns the node.
    Conflict,
    /// Another installation of the operator, in another namespace, looks after the node or its CXIDriver.
    AnotherInstallation,
    /// An object that says what is on the node cannot be read.
    Unreadable,
    /// The CXIDriver is being deleted and leaves its driver on the node.
    Orphaning,
    /// The CXIDriver lacks a setting, or a name does not fit; its condition `Blocked` says which.
    NotConfigured,
    /// KMM is not installed or does not answer.
    KmmUnavailable,
    /// The admission policy that keeps node agents to their own nodes is not in force.
    AgentPolicyMissing,
    /// The node agent has not reported, or not since the question was asked.
    AgentSilent,
    /// KMM's worker does not get the old driver out.
    UnloadStuck,
    /// KMM's worker has not loaded the driver yet.
    Loading,
    /// Links are not up yet, or devices are missing.
    LinkDown,
    /// The loaded modules are not those of the image.
    WrongDriver,
    /// The resource is not back on the node yet.
    NotAdvertised,
    /// The resource is still on the node although its plugin should be gone.
    StillAdvertised,
    /// The host brings the driver and it is not loaded.
    HostDriverMissing,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a node waits for, or nothing where the reason is one that a newer operator has written and this one does not know. It only
/// explains, and the operator says at its next turn what it waits for itself. A word that stood for all unknown ones could not be
/// written again: the schema does not have it.
pub(crate) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Blocker>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Read {
        reason: String,
        #[serde(default)]
        object: Option<ObjectInTheWay>,
        message: String,
        since: Timestamp,
    }
    let Some(Read { reason, object, message, since }) = Option::<Read>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let reason: Result<Reason, value::Error> = Reason::deserialize(reason.into_deserializer());
    Ok(reason.ok().map(|reason| Blocker { reason, object, message, since }))
}
