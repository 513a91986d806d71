//! What the engine may ask for. Actions are data; one module of the operator carries them out. Each is safe to repeat, and
//! each is guarded against having been decided on a stale view.

mod about;

use std::{sync::Arc, time::Duration};

use cxi_api::{
    CXIDriverSpec, CXIDriverStatus, CXIPreflightStatus, NodeRollout, RevisionId, Timestamp, Validation,
    names::RETRY_HANDLER_GATE_PREFIX,
};

use crate::{
    evidence::proof::{Quiesced, Unloaded},
    world::{Holder, Taint},
};

pub use about::Subject;

/// What to do now, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do, in any order; there are never two writes to one object.
    pub actions: Vec<Action>,
    /// When a timer runs out.
    pub wake: Option<Timestamp>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on a CXIDriver.
    AddFinalizer {
        /// CXIDriver.
        driver: String,
    },
    /// Take our finalizer off a CXIDriver; nothing of it is left, or it is to be orphaned.
    RemoveFinalizer {
        /// CXIDriver.
        driver: String,
    },
    /// Create the KMM Module of a revision.
    CreateModule {
        /// CXIDriver.
        driver: String,
        /// Revision.
        revision: RevisionId,
        /// The spec that describes it: that of the CXIDriver, or one that a CXIPreflight asks about.
        spec: Arc<CXIDriverSpec>,
    },
    /// Create the `ConfigMap` with the Containerfile of a revision. Its Module, which owns it, is there.
    CreateContainerfile {
        /// CXIDriver.
        driver: String,
        /// Revision.
        revision: RevisionId,
        /// The spec that describes it.
        spec: Arc<CXIDriverSpec>,
    },
    /// Ask KMM whether there are images that no node needs: create a `ModuleImagesConfig` for a CXIPreflight, which owns it.
    AskForImages {
        /// CXIPreflight.
        preflight: String,
        /// Its UID.
        uid: String,
        /// CXIDriver.
        driver: String,
        /// Revision.
        revision: RevisionId,
        /// The spec that describes it.
        spec: Arc<CXIDriverSpec>,
        /// Kernels whose images are asked for.
        kernels: Vec<String>,
    },
    /// Replace the status of a CXIPreflight. Fails when another client wrote meanwhile.
    WritePreflightStatus {
        /// CXIPreflight.
        preflight: String,
        /// Its UID.
        uid: String,
        /// The whole status.
        status: Box<CXIPreflightStatus>,
    },
    /// Delete a CXIPreflight whose time is over.
    DeletePreflight {
        /// CXIPreflight.
        preflight: String,
        /// Its UID.
        uid: String,
    },
    /// Delete the KMM Module of a revision; no node carries its label.
    DeleteModule {
        /// Revision.
        revision: RevisionId,
    },
    /// Create or update the DaemonSets of the operands, and delete those of operands that are not wanted.
    ApplyOperands {
        /// CXIDriver.
        driver: String,
        /// The CXIDriver's spec.
        spec: Arc<CXIDriverSpec>,
    },
    /// Delete the DaemonSets of the operands.
    DeleteOperands {
        /// CXIDriver.
        driver: String,
    },
    /// Replace a CXIDriver's status: the ledger, counters and conditions. Fails when another client wrote meanwhile.
    WriteDriverStatus {
        /// CXIDriver.
        driver: String,
        /// The whole status; `lastTransitionTime` of conditions is already right.
        status: Box<CXIDriverStatus>,
        /// Whether the ledger, the halt or a condition changed; otherwise only counters did, which can wait for some seconds.
        urgent: bool,
    },
    /// Create a node's CXINode.
    CreateRecord {
        /// Node.
        node: String,
        /// UID of the Node, which owns it.
        uid: String,
    },
    /// Delete a CXINode.
    DeleteRecord {
        /// Node.
        node: String,
        /// UID of the CXINode.
        uid: String,
    },
    /// Write a node's place in the rollout. Fails when it is not `was` any more.
    WriteRollout {
        /// Node.
        node: String,
        /// UID of the CXINode.
        uid: String,
        /// As the engine saw it.
        was: Option<Box<NodeRollout>>,
        /// As it should be.
        now: Box<NodeRollout>,
    },
    /// Change labels and our taint of a Node in one write.
    PatchNode {
        /// Node.
        node: String,
        /// UID of the Node.
        uid: String,
        /// The changes.
        changes: Vec<NodeChange>,
    },
    /// Remove a KMM version label: KMM unloads the driver. Fails when anything of the Node changed since it was seen: the
    /// same label may have gone and come again, and another driver's life depends on it.
    Unload {
        /// Node.
        node: String,
        /// UID of the Node.
        uid: String,
        /// Label key.
        label: String,
        /// Its present value.
        value: String,
        /// Proof that no pod and no process holds the device.
        proof: Quiesced,
    },
    /// Set a KMM version label: KMM loads the driver. Fails when anything of the Node changed since it was seen.
    Load {
        /// Node.
        node: String,
        /// UID of the Node.
        uid: String,
        /// Label key.
        label: String,
        /// Value.
        value: String,
        /// No driver is loaded.
        proof: Unloaded,
    },
    /// Start the one-shot pod that pulls the images on a node and hands over the new image's manifest.
    StartPrefetch {
        /// Node.
        node: String,
        /// UID of the Node.
        uid: String,
        /// CXIDriver.
        driver: String,
        /// The spec that describes the revision: it names the pull secret.
        spec: Arc<CXIDriverSpec>,
        /// Revision that will be loaded.
        revision: RevisionId,
        /// Its image.
        image: String,
        /// The image with which the present revision will be unloaded.
        old_image: Option<String>,
    },
    /// Start the one-shot pod that takes out leftovers of a failed load.
    StartCleanup {
        /// Node.
        node: String,
        /// UID of the Node.
        uid: String,
        /// CXIDriver.
        driver: String,
        /// The CXIDriver's spec.
        spec: Arc<CXIDriverSpec>,
        /// Modules to take out, holders before what they hold.
        modules: Vec<String>,
    },
    /// Start the one-shot pod that has the host load the driver that it brings.
    StartHostDriver {
        /// Node.
        node: String,
        /// UID of the Node.
        uid: String,
        /// CXIDriver.
        driver: String,
        /// The CXIDriver's spec.
        spec: Arc<CXIDriverSpec>,
    },
    /// Start the site's validation pod.
    StartValidation {
        /// Node.
        node: String,
        /// UID of the Node.
        uid: String,
        /// CXIDriver.
        driver: String,
        /// Revision that is tested.
        revision: RevisionId,
        /// Number of the transaction: each has a pod of its own.
        attempt: i32,
        /// What the pod is told of the node.
        facts: Facts,
        /// The pod.
        validation: Arc<Validation>,
        /// The spec that describes the revision: it names the pull secret.
        spec: Arc<CXIDriverSpec>,
    },
    /// Delete a one-shot pod of ours.
    DeleteOwnPod {
        /// Name, in the operator's namespace.
        name: String,
        /// UID.
        uid: String,
    },
    /// Ask the Eviction API to evict a pod.
    Evict {
        /// Node.
        node: String,
        /// CXIDriver.
        driver: String,
        /// The pod.
        pod: Box<Holder>,
    },
    /// Delete a pod, because `drain.onTimeout: Force` says so. One that ends already is given less time.
    ForceDelete {
        /// Node.
        node: String,
        /// CXIDriver.
        driver: String,
        /// The pod.
        pod: Box<Holder>,
        /// Time that it has to end.
        grace: Duration,
    },
    /// Look at a node without a cache; the result appears in [`crate::world::Node::looks`].
    Look {
        /// Node.
        node: String,
        /// The resources whose holders are looked for.
        resources: Vec<String>,
        /// The step that asks for it: `since` of the node's record.
        step: Timestamp,
    },
    /// Write into the status of a CXIDriver that cannot be read that this is so: the condition `Blocked`, and nothing else.
    SayUnreadable {
        /// CXIDriver.
        driver: String,
        /// UID.
        uid: String,
        /// Which field cannot be read, and what to do.
        message: String,
    },
    /// Tell people.
    Announce(Announcement),
}

/// What a validation pod is told of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Driver release.
    pub version: String,
    /// Device names of the NICs to test, such as cxi0.
    pub devices: Vec<String>,
}

/// A change of a Node's labels or of our taint on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Set a label.
    SetLabel {
        /// Key.
        key: String,
        /// Present value; the write fails when it differs.
        was: Option<String>,
        /// New value.
        value: String,
    },
    /// Remove a label.
    RemoveLabel {
        /// Key.
        key: String,
        /// Present value; the write fails when it differs.
        was: String,
    },
    /// Add our taint; the write fails when the taints are not `was` any more.
    AddTaint {
        /// Taints as seen.
        was: Vec<Taint>,
        /// The taint.
        taint: Taint,
    },
    /// Remove our taint; the write fails when it is not at `index` any more.
    RemoveTaint {
        /// Its place in the list.
        index: usize,
        /// The taint.
        taint: Taint,
    },
}

impl NodeChange {
    /// Whether the whole Node has to be as it was seen, and not only the value that is changed. What is absent has no value to compare.
    /// And the gate of a retry handler may have been closed and opened again since with the same value: jobs that came then need it.
    pub fn needs_unchanged_node(&self) -> bool {
        match self {
            Self::SetLabel { was: None, .. } | Self::AddTaint { .. } => true,
            Self::SetLabel { key, .. } | Self::RemoveLabel { key, .. } => key.starts_with(RETRY_HANDLER_GATE_PREFIX),
            Self::RemoveTaint { .. } => false,
        }
    }
}

impl Action {
    /// Says what is wrong with a CXIDriver as a whole.
    pub fn warn(driver: &str, reason: &str, message: String) -> Self {
        let (driver, reason) = (driver.to_owned(), reason.to_owned());
        Self::Announce(Announcement { driver, node: None, warning: true, reason, message })
    }
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Announcement {
    /// CXIDriver that it is about.
    pub driver: String,
    /// Node that it is about; else only the CXIDriver.
    pub node: Option<String>,
    /// Whether something is wrong.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}
