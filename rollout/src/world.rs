//! What the engine is told: the cluster as observed. Every list in here is complete: a [`World`] must not be
//! built while a list has not been read, because an error while looking is not an empty list.

mod preflight;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use cxi_api::{
    CXIDriverSpec, CXIDriverStatus, NodeReport, NodeRollout, RevisionId, Timestamp, driver_status::SidecarImages,
    kmm::NodeModule, names::Role,
};

pub use preflight::{Candidate, Preflight};

/// The cluster as observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Namespace of the operator, its Modules and pods.
    pub namespace: String,
    /// Whether KMM's API is served.
    pub kmm_present: bool,
    /// Whether node agents are kept to their own nodes.
    pub agent_policy: AgentPolicy,
    /// Node that the operator itself runs on, if it runs in the cluster: admitted last.
    pub own_node: Option<String>,
    /// All CXIDrivers that can be read.
    pub drivers: Vec<Driver>,
    /// CXIDrivers that the API server holds and that cannot be read. Their nodes stay theirs, and stay as they are.
    pub unreadable_drivers: Vec<UnreadableDriver>,
    /// All nodes, by name.
    pub nodes: BTreeMap<String, Node>,
    /// Our KMM Modules.
    pub revisions: Vec<Revision>,
    /// All PodDisruptionBudgets that cover at least one holder.
    pub disruption_budgets: Vec<DisruptionBudget>,
    /// All CXIPreflights that can be read, the oldest first.
    pub preflights: Vec<Preflight>,
    /// UIDs of CXIPreflights that the API server holds and that cannot be read. A node that tries a release for one stays as it is.
    pub unreadable_preflights: BTreeSet<String>,
}

/// Whether the admission policy is there that keeps node agents to their own nodes. Without it the token of one node's agent could write
/// the place of every node in a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AgentPolicy {
    /// The operator has not looked yet, or looking failed from the beginning.
    #[default]
    Unknown,
    /// The policy or its binding is not there, or refuses nothing.
    Missing,
    /// Policy and binding are there.
    InForce,
}

/// A CXIDriver that the API server holds and that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableDriver {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Which field cannot be read, and why.
    pub why: String,
    /// Whether its condition `Blocked` says so already, in these words.
    pub told: bool,
}

/// A CXIDriver.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Driver {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// metadata.generation.
    pub generation: i64,
    /// metadata.creationTimestamp; among drivers that want a node the oldest gets it.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether deletion leaves drivers loaded (annotation `cxi.hpe.com/orphan`).
    pub orphan: bool,
    /// Whether it carries our finalizer.
    pub finalizer: bool,
    /// Annotation `cxi.hpe.com/resume`.
    pub resume: Option<String>,
    /// Spec, with defaults.
    pub spec: Arc<CXIDriverSpec>,
    /// Status as last written.
    pub status: CXIDriverStatus,
    /// Why the API server refused the Module of the revision that the spec describes, in its words, if it did; when the Module is
    /// there, why there is no Containerfile by which KMM could build.
    pub module_refused: Option<String>,
    /// Whether the operands' DaemonSets exist and are as they should be.
    pub operands_current: bool,
    /// The same of the device plugin's alone.
    pub plugin_current: bool,
    /// By operand that is not gated, the nodes on which its DaemonSet should have a pod and has one that is ready.
    pub pods_ready: BTreeMap<Role, i32>,
    /// By operand that its DaemonSet replaces node by node, the nodes that do not run a pod of its present template; none where all do.
    pub pods_outdated: BTreeMap<Role, i32>,
    /// Whether the cluster puts retry handlers into pods.
    pub injection: Injection,
    /// The images that it is to put into them, where that is wanted.
    pub sidecar: Option<SidecarImages>,
    /// Names under which the DaemonSet of the device plugin, as it is now, offers NICs.
    pub offered: Vec<String>,
    /// Annotation `cxi.hpe.com/max-unselected`: how many nodes may stop to be selected at the same time.
    pub max_unselected: Option<usize>,
    /// Annotation `cxi.hpe.com/installation`: the namespace of the operator that is to look after it.
    pub installation: Option<String>,
}

/// Whether the cluster puts retry handlers into pods that ask for a NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Injection {
    /// The operator has not looked yet.
    #[default]
    Unknown,
    /// The cluster does not serve `MutatingAdmissionPolicies`.
    NotServed,
    /// The policy or its binding is not installed.
    NotInstalled,
    /// Policy and binding are there.
    InForce,
}

/// One of our KMM Modules with what KMM knows of its images.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// CXIDriver it belongs to.
    pub driver: String,
    /// Name of the revision, also the Module's version.
    pub id: RevisionId,
    /// Driver release.
    pub version: String,
    /// metadata.creationTimestamp of the Module.
    pub created: Timestamp,
    /// Whether the Module is being deleted.
    pub deleting: bool,
    /// Image by kernel (`uname -r`), from the ModuleImagesConfig; empty before KMM has made one.
    pub images: BTreeMap<String, Image>,
    /// Whether the `ConfigMap` with the Containerfile that KMM builds its images by is there.
    pub containerfile: bool,
}

/// A driver image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Reference.
    pub reference: String,
    /// Whether KMM has verified that it exists.
    pub state: ImageState,
    /// What keeps KMM's pod from pulling or building it, if anything does.
    pub problem: Option<PodProblem>,
}

/// What keeps a pod of KMM's from its work, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodProblem {
    /// It cannot pull an image.
    Pull(String),
    /// The scheduler finds no node for it. The words have numbers of nodes in them, which change all the time.
    Unscheduled(String),
}

/// What KMM knows of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// Verified.
    Exists,
    /// Known to be missing.
    Missing,
    /// Missing, and KMM builds it.
    Building,
    /// Built, and KMM signs its modules.
    Signing,
    /// Being checked.
    Unknown,
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// metadata.creationTimestamp.
    pub created: Timestamp,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Whether the node's Ready condition is true.
    pub ready: bool,
    /// spec.unschedulable.
    pub cordoned: bool,
    /// status.nodeInfo.kernelVersion.
    pub kernel: String,
    /// status.nodeInfo.bootID.
    pub boot_id: String,
    /// Allocatable extended resources, by name.
    pub allocatable: BTreeMap<String, i64>,
    /// The Node, its CXINode or what KMM says of it cannot be read: what, and why. Such a node counts as unavailable, and nothing
    /// on it is changed.
    pub unreadable: Option<String>,
    /// The node's CXINode, if it exists, can be read and is owned by this Node's UID.
    pub record: Option<Record>,
    /// UID of a CXINode of this name that belongs to an earlier Node of the same name, and must go.
    pub stale_record: Option<String>,
    /// Pods on the node, not ended, that hold a resource named by some CXIDriver.
    pub holders: Vec<Holder>,
    /// What KMM wants on the node (NodeModulesConfig.spec), our Modules only.
    pub kmm_wants: Vec<NodeModule>,
    /// What KMM has on the node (NodeModulesConfig.status), our Modules only.
    pub kmm_has: Vec<NodeModule>,
    /// KMM's worker pods on the node for our Modules.
    pub workers: Vec<Worker>,
    /// The operator's own pods on the node.
    pub pods: Vec<OwnPod>,
    /// Uncached looks at this node, oldest first; at most the last [`crate::looks::KEPT`]. Kept in memory only: losing them costs a
    /// second look.
    pub looks: Vec<Look>,
}

/// A CXINode.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// UID.
    pub uid: String,
    /// status.rollout, as last written.
    pub rollout: Option<NodeRollout>,
    /// status.node.
    pub report: Option<NodeReport>,
}

/// A taint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
    /// Effect.
    pub effect: String,
}

/// A pod that holds the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Resources that it requests, of those named by some CXIDriver.
    pub resources: Vec<String>,
    /// When it has to be gone: deletion time plus grace; absent while it is not being deleted.
    pub ends: Option<Timestamp>,
    /// Kind and name of its controller.
    pub controller: Option<(String, String)>,
    /// Whether it is a static (mirror) pod.
    pub is_static: bool,
    /// Whether the kubelet of its node has accepted it (`status.startTime`). Until then it is bound to the node and may hold the
    /// device, or be refused.
    pub started: bool,
    /// How it is, as the Eviction API asks before it looks at PodDisruptionBudgets.
    pub health: PodHealth,
    /// Time that it is given to end by itself (`spec.terminationGracePeriodSeconds`).
    pub grace: Duration,
    /// The pod cannot be read: nothing is known of it but where it is. It holds the device, and it must not be evicted.
    pub unreadable: bool,
    /// Result of the last eviction that was refused: when it may be tried again and what was in the way.
    pub refused: Option<Refusal>,
}

/// How a pod is, as far as PodDisruptionBudgets care (kube-apiserver `pkg/registry/core/pod/storage/eviction.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodHealth {
    /// Phase Pending: evictions ask no budget.
    Pending,
    /// Started, and its condition Ready is not True.
    Unready,
    /// Ready.
    Ready,
}

/// A refused eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Not before.
    pub retry_at: Timestamp,
    /// Name of the PodDisruptionBudget in the way, with namespace; absent when the server was too busy or there is another
    /// reason.
    pub budget: Option<String>,
    /// The server's words.
    pub message: String,
}

/// A KMM worker pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Module it works for.
    pub module: String,
    /// `true` for load, `false` for unload.
    pub loads: bool,
    /// Kernel of its configuration.
    pub kernel: Option<String>,
    /// Restarts of its container.
    pub restarts: i32,
    /// Why it does not get on: reason and message of its waiting or terminated container.
    pub trouble: Option<String>,
    /// Whether its image cannot be pulled.
    pub image_missing: bool,
}

/// A pod of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPod {
    /// What it is for.
    pub role: Role,
    /// CXIDriver it belongs to (label `cxi.hpe.com/driver`).
    pub driver: String,
    /// Revision it was made for (label `cxi.hpe.com/revision`), for one-shot pods.
    pub revision: Option<RevisionId>,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// How far it is.
    pub state: PodState,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// How far a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Not running yet.
    Pending {
        /// What keeps a container from its image, if anything does.
        image: Option<ImageTrouble>,
    },
    /// Running; ready if all containers are.
    Running {
        /// Whether it is ready.
        ready: bool,
    },
    /// Ended well, with the termination message of its main container.
    Succeeded {
        /// Termination message.
        message: String,
    },
    /// A container ended badly by itself: that is an answer.
    Failed {
        /// Its exit code.
        code: i32,
        /// Its termination message.
        message: String,
    },
    /// The pod ended and gave no answer: the kubelet refused it, or took it away before its container had ended by itself. It says
    /// nothing of images or modules, and another pod may well succeed.
    Unfinished {
        /// Reason and message of the kubelet.
        why: String,
    },
}

/// What keeps a container from its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageTrouble {
    /// The registry answered that it has no such image, or the name is none. The reason and the kubelet's words.
    Missing(String),
    /// The image could not be pulled, and whether it is there is not known: a time limit, a registry that does not answer, an
    /// authorization that is refused. The kubelet tries again by itself. The reason and the kubelet's words.
    Unpulled(String),
}

/// An uncached look at a node: read from the API server, not from a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The step that ordered it: `since` of the node's record at that time. What ties a look to a step is this identity, not the time
    /// that has passed.
    pub step: Timestamp,
    /// When the look began, by the operator's clock. Only the pause between two looks is measured with it.
    pub at: Timestamp,
    /// Node.status.allocatable of the driver's resources, all names together.
    pub allocatable: i64,
    /// Device plugin pods on the node, in any state.
    pub plugin_pods: usize,
    /// Retry handler pods on the node, in any state.
    pub retry_handler_pods: usize,
    /// Pods that hold the resource.
    pub holders: Vec<Holder>,
    /// The agent's report.
    pub report: Option<NodeReport>,
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq)]
pub struct DisruptionBudget {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UIDs of the holders that it covers.
    pub covers: Vec<String>,
    /// status.disruptionsAllowed.
    pub allowed: i32,
    /// The most that it can ever allow: status.expectedPods less status.desiredHealthy.
    pub most: i32,
    /// Whether pods that are not ready may be evicted although it allows nothing: with `unhealthyPodEvictionPolicy: AlwaysAllow`, and
    /// otherwise while as many pods are healthy as it asks for.
    pub spares_unready: bool,
    /// Why it can never allow an eviction, in the words of the disruption controller (condition `DisruptionAllowed`, reason
    /// `SyncFailed`), or because it cannot be read.
    pub broken: Option<String>,
}

impl ImageTrouble {
    /// The reason and the kubelet's words.
    pub fn words(&self) -> &str {
        match self {
            Self::Missing(words) | Self::Unpulled(words) => words,
        }
    }
}

impl Holder {
    /// `<namespace>/<name>`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Driver {
    /// Whether its selector matches a node.
    pub fn selects(&self, node: &Node) -> bool {
        node.carries(&self.spec.node_selector)
    }

    /// Names under which NICs are offered, the present one first, or were offered and may still be held.
    pub fn resource_names(&self) -> impl Iterator<Item = &str> {
        let present = &self.spec.device_plugin.resource_name;
        let stored = &self.status.resource_names;
        let earlier = stored.iter().filter(move |name| *name != present);
        let offered = self.offered.iter().filter(move |name| *name != present && !stored.contains(name));
        std::iter::once(present).chain(earlier).chain(offered).map(String::as_str)
    }
}

impl Look {
    /// Whether the node offered nothing, and its device plugin was gone.
    pub fn is_closed(&self) -> bool {
        self.allocatable == 0 && self.plugin_pods == 0
    }

    /// Whether a pod was on the node.
    pub fn sees(&self, uid: &str) -> bool {
        self.holders.iter().any(|holder| holder.uid == uid)
    }
}

impl Node {
    /// Whether it has all of these labels.
    pub fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// Labels whose keys begin with `prefix`.
    pub fn labels_below<P: AsRef<str>>(&self, prefix: P) -> impl Iterator<Item = (&String, &String)> + use<'_, P> {
        let from = self.labels.range::<str, _>((Bound::Included(prefix.as_ref()), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(prefix.as_ref()))
    }

    /// The node's place in a rollout.
    pub fn rollout(&self) -> Option<&NodeRollout> {
        self.record.as_ref()?.rollout.as_ref()
    }

    /// Whether what a record says of the node was so in this boot.
    pub fn is_in_boot_of(&self, record: &NodeRollout) -> bool {
        record.boot_id.as_ref() == Some(&self.boot_id)
    }

    /// The agent's last report, if it is of this boot.
    pub fn report(&self) -> Option<&NodeReport> {
        self.record.as_ref()?.report.as_ref().filter(|report| report.boot_id == self.boot_id)
    }
}
