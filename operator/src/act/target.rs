//! What an action writes to, and what it is about.

use cxi_api::names::module_name;
use cxi_rollout::Action;

use crate::observe::Snapshot;

/// The object that an action writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A CXIDriver.
    Driver(String),
    /// A KMM Module.
    Module(String),
    /// The DaemonSets of a CXIDriver.
    Operands(String),
    /// A CXINode.
    Record(String),
    /// A Node.
    Node(String),
    /// The one-shot pod of ours for a node, or a pod of ours by name.
    OwnPod(String),
    /// A user's pod, by UID.
    Pod(String),
    /// Nothing: a look at a node.
    Look(String),
}

impl Target {
    /// The target of an action.
    pub fn of(action: &Action, namespace: &str) -> Self {
        match action {
            Action::AddFinalizer { driver }
            | Action::RemoveFinalizer { driver }
            | Action::SayUnreadable { driver, .. }
            | Action::WriteDriverStatus { driver, .. } => Self::Driver(driver.clone()),
            Action::CreateModule { revision, .. }
            | Action::CreateContainerfile { revision, .. }
            | Action::DeleteModule { revision } => Self::Module(module_name(revision)),
            Action::ApplyOperands { driver } | Action::DeleteOperands { driver } => Self::Operands(driver.clone()),
            Action::CreateRecord { node, .. }
            | Action::DeleteRecord { node, .. }
            | Action::WriteRollout { node, .. } => Self::Record(node.clone()),
            Action::PatchNode { node, .. } | Action::Unload { node, .. } | Action::Load { node, .. } => {
                Self::Node(node.clone())
            }
            Action::StartPrefetch { node, .. } => Self::OwnPod(format!("prefetch on {node}")),
            Action::StartCleanup { node, .. } => Self::OwnPod(format!("cleanup on {node}")),
            Action::StartHostDriver { node, .. } => Self::OwnPod(format!("host driver on {node}")),
            Action::DeleteOwnPod { name, .. } => Self::OwnPod(format!("{namespace}/{name}")),
            Action::Evict { pod, .. } | Action::ForceDelete { pod, .. } => Self::Pod(pod.uid.clone()),
            Action::Look { node, .. } => Self::Look(node.clone()),
            Action::Announce(about) => Self::Look(about.node.clone().unwrap_or_default()),
        }
    }

    /// Whether there is one of it for all nodes of a CXIDriver.
    pub fn serves_all_nodes(&self) -> bool {
        matches!(self, Self::Driver(_) | Self::Module(_) | Self::Operands(_))
    }
}

/// What an action is about, for the log.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// What is done.
    pub step: String,
    /// Node.
    pub node: Option<String>,
    /// CXIDriver.
    pub driver: Option<String>,
    /// Phase of the node when it was planned; for a phase change also the new one.
    pub phase: Option<String>,
    /// The rollout.
    pub rollout: Option<String>,
    /// Whether it is of no interest when it succeeds.
    pub quiet: bool,
}

impl Context {
    /// The context of an action.
    pub fn of(action: &Action, seen: &Snapshot) -> Self {
        let (step, quiet) = step(action);
        let node = node(action).map(str::to_owned);
        let place = node.as_deref().and_then(|node| seen.record(node)?.readable()?.place());
        let driver = driver(action).map(str::to_owned).or_else(|| place.map(|place| place.driver.clone()));
        let phase = match action {
            Action::WriteRollout { now, .. } => Some(now.phase.to_string()),
            _ => place.map(|place| place.phase.to_string()),
        };
        let rollout = driver
            .as_deref()
            .and_then(|driver| seen.driver(driver)?.readable()?.status.rollout.as_ref())
            .map(|rollout| rollout.id.clone());
        Self { step, node, driver, phase, rollout, quiet }
    }
}

fn node(action: &Action) -> Option<&str> {
    match action {
        Action::CreateRecord { node, .. }
        | Action::DeleteRecord { node, .. }
        | Action::WriteRollout { node, .. }
        | Action::PatchNode { node, .. }
        | Action::Unload { node, .. }
        | Action::Load { node, .. }
        | Action::StartPrefetch { node, .. }
        | Action::StartCleanup { node, .. }
        | Action::StartHostDriver { node, .. }
        | Action::Evict { node, .. }
        | Action::ForceDelete { node, .. }
        | Action::Look { node, .. } => Some(node),
        _ => None,
    }
}

fn driver(action: &Action) -> Option<&str> {
    match action {
        Action::AddFinalizer { driver }
        | Action::RemoveFinalizer { driver }
        | Action::CreateModule { driver, .. }
        | Action::CreateContainerfile { driver, .. }
        | Action::ApplyOperands { driver }
        | Action::DeleteOperands { driver }
        | Action::WriteDriverStatus { driver, .. }
        | Action::SayUnreadable { driver, .. }
        | Action::StartPrefetch { driver, .. }
        | Action::StartCleanup { driver, .. }
        | Action::StartHostDriver { driver, .. }
        | Action::Evict { driver, .. }
        | Action::ForceDelete { driver, .. } => Some(driver),
        Action::WriteRollout { now, .. } => Some(&now.driver),
        _ => None,
    }
}

/// What is done, in words, and whether it is of no interest when it succeeds.
fn step(action: &Action) -> (String, bool) {
    let words = match action {
        Action::AddFinalizer { .. } => "add the finalizer".to_owned(),
        Action::RemoveFinalizer { .. } => "remove the finalizer".to_owned(),
        Action::CreateModule { revision, .. } => format!("create Module {}", module_name(revision)),
        Action::CreateContainerfile { revision, .. } => {
            format!("create the Containerfile of {}", module_name(revision))
        }
        Action::DeleteModule { revision } => format!("delete Module {}", module_name(revision)),
        Action::ApplyOperands { .. } => "apply the operands".to_owned(),
        Action::DeleteOperands { .. } => "delete the operands".to_owned(),
        Action::WriteDriverStatus { .. } => return ("write the status".to_owned(), true),
        Action::SayUnreadable { message, .. } => format!("say that it cannot be read: {message}"),
        Action::CreateRecord { .. } => return ("create the CXINode".to_owned(), true),
        Action::DeleteRecord { .. } => "delete the CXINode".to_owned(),
        Action::WriteRollout { was, now, .. } => match was {
            Some(was) if was.phase == now.phase => return (format!("note in {}", now.phase), true),
            Some(was) => format!("{} to {}", was.phase, now.phase),
            None => format!("enter {}", now.phase),
        },
        Action::PatchNode { changes, .. } => return (format!("change labels or taints: {changes:?}"), true),
        Action::Unload { label, value, .. } => format!("unload: remove {label}={value}"),
        Action::Load { label, value, .. } => format!("load: set {label}={value}"),
        Action::StartPrefetch { image, .. } => format!("pull {image}"),
        Action::StartCleanup { modules, .. } => format!("take out {}", modules.join(", ")),
        Action::StartHostDriver { .. } => "have the host load its driver".to_owned(),
        Action::DeleteOwnPod { name, .. } => return (format!("delete pod {name}"), true),
        Action::Evict { pod, .. } => format!("evict {}/{}", pod.namespace, pod.name),
        Action::ForceDelete { pod, .. } => format!("delete {}/{}", pod.namespace, pod.name),
        Action::Look { .. } => return ("look without a cache".to_owned(), true),
        Action::Announce(_) => return ("announce".to_owned(), true),
    };
    (words, false)
}
