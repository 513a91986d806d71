//! What an action is about, and in words.

use std::fmt;

use cxi_api::names::module_name;

use crate::action::Action;

/// The object that an action writes. Two actions with the same subject are never carried out at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A CXIDriver.
    Driver(String),
    /// A KMM Module.
    Module(String),
    /// The DaemonSets of a CXIDriver.
    Operands(String),
    /// A CXIPreflight.
    Preflight(String),
    /// What KMM is asked about for a CXIPreflight.
    Question(String),
    /// A CXINode.
    Record(String),
    /// A Node.
    Node(String),
    /// The one-shot pod of ours for a node, or a pod of ours by name.
    OwnPod(String),
    /// A user's pod, by UID.
    Pod(String),
    /// Nothing: a look at a node, or an Event about it.
    Nothing(String),
}

impl Subject {
    /// Whether there is one of it for all nodes of a CXIDriver.
    pub fn serves_all_nodes(&self) -> bool {
        matches!(self, Self::Driver(_) | Self::Module(_) | Self::Operands(_))
    }
}

impl Action {
    /// The object that the action writes.
    pub fn subject(&self) -> Subject {
        match self {
            Self::AddFinalizer { driver }
            | Self::RemoveFinalizer { driver }
            | Self::SayUnreadable { driver, .. }
            | Self::WriteDriverStatus { driver, .. } => Subject::Driver(driver.clone()),
            Self::CreateModule { revision, .. }
            | Self::CreateContainerfile { revision, .. }
            | Self::DeleteModule { revision } => Subject::Module(module_name(revision)),
            Self::ApplyOperands { driver, .. } | Self::DeleteOperands { driver } => Subject::Operands(driver.clone()),
            Self::AskForImages { preflight, .. } => Subject::Question(preflight.clone()),
            Self::WritePreflightStatus { preflight, .. } | Self::DeletePreflight { preflight, .. } => {
                Subject::Preflight(preflight.clone())
            }
            Self::CreateRecord { node, .. } | Self::DeleteRecord { node, .. } | Self::WriteRollout { node, .. } => {
                Subject::Record(node.clone())
            }
            Self::PatchNode { node, .. } | Self::Unload { node, .. } | Self::Load { node, .. } => {
                Subject::Node(node.clone())
            }
            Self::StartPrefetch { node, .. } => Subject::OwnPod(format!("prefetch on {node}")),
            Self::StartCleanup { node, .. } => Subject::OwnPod(format!("cleanup on {node}")),
            Self::StartHostDriver { node, .. } => Subject::OwnPod(format!("host driver on {node}")),
            Self::StartValidation { node, .. } => Subject::OwnPod(format!("validation on {node}")),
            Self::DeleteOwnPod { name, .. } => Subject::OwnPod(format!("pod {name}")),
            Self::Evict { pod, .. } | Self::ForceDelete { pod, .. } => Subject::Pod(pod.uid.clone()),
            Self::Look { node, .. } => Subject::Nothing(node.clone()),
            Self::Announce(about) => Subject::Nothing(about.node.clone().unwrap_or_default()),
        }
    }

    /// The node that the action is about, if it is about one.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::CreateRecord { node, .. }
            | Self::DeleteRecord { node, .. }
            | Self::WriteRollout { node, .. }
            | Self::PatchNode { node, .. }
            | Self::Unload { node, .. }
            | Self::Load { node, .. }
            | Self::StartPrefetch { node, .. }
            | Self::StartCleanup { node, .. }
            | Self::StartHostDriver { node, .. }
            | Self::StartValidation { node, .. }
            | Self::Evict { node, .. }
            | Self::ForceDelete { node, .. }
            | Self::Look { node, .. } => Some(node),
            _ => None,
        }
    }

    /// The CXIDriver that the action is about, as far as the action says so.
    pub fn driver(&self) -> Option<&str> {
        match self {
            Self::AddFinalizer { driver }
            | Self::RemoveFinalizer { driver }
            | Self::CreateModule { driver, .. }
            | Self::CreateContainerfile { driver, .. }
            | Self::ApplyOperands { driver, .. }
            | Self::DeleteOperands { driver }
            | Self::WriteDriverStatus { driver, .. }
            | Self::SayUnreadable { driver, .. }
            | Self::StartPrefetch { driver, .. }
            | Self::StartCleanup { driver, .. }
            | Self::StartHostDriver { driver, .. }
            | Self::StartValidation { driver, .. }
            | Self::AskForImages { driver, .. }
            | Self::Evict { driver, .. }
            | Self::ForceDelete { driver, .. } => Some(driver),
            Self::WriteRollout { now, .. } => Some(&now.driver),
            _ => None,
        }
    }

    /// Whether the action is of no interest to an administrator when it succeeds.
    pub fn is_routine(&self) -> bool {
        match self {
            Self::WriteDriverStatus { .. }
            | Self::WritePreflightStatus { .. }
            | Self::CreateRecord { .. }
            | Self::PatchNode { .. }
            | Self::DeleteOwnPod { .. }
            | Self::Look { .. }
            | Self::Announce(_) => true,
            Self::WriteRollout { was, now, .. } => was.as_ref().is_some_and(|was| was.phase == now.phase),
            _ => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddFinalizer { .. } => write!(f, "add the finalizer"),
            Self::RemoveFinalizer { .. } => write!(f, "remove the finalizer"),
            Self::CreateModule { revision, .. } => write!(f, "create Module {}", module_name(revision)),
            Self::CreateContainerfile { revision, .. } => {
                write!(f, "create the Containerfile of {}", module_name(revision))
            }
            Self::DeleteModule { revision } => write!(f, "delete Module {}", module_name(revision)),
            Self::ApplyOperands { .. } => write!(f, "apply the operands"),
            Self::DeleteOperands { .. } => write!(f, "delete the operands"),
            Self::WriteDriverStatus { .. } => write!(f, "write the status"),
            Self::SayUnreadable { message, .. } => write!(f, "say that it cannot be read: {message}"),
            Self::CreateRecord { .. } => write!(f, "create the CXINode"),
            Self::DeleteRecord { .. } => write!(f, "delete the CXINode"),
            Self::WriteRollout { was, now, .. } => match was {
                Some(was) if was.phase == now.phase => write!(f, "note in {}", now.phase),
                Some(was) => write!(f, "{} to {}", was.phase, now.phase),
                None => write!(f, "enter {}", now.phase),
            },
            Self::PatchNode { changes, .. } => write!(f, "change labels or taints: {changes:?}"),
            Self::Unload { label, value, .. } => write!(f, "unload: remove {label}={value}"),
            Self::Load { label, value, .. } => write!(f, "load: set {label}={value}"),
            Self::StartPrefetch { image, .. } => write!(f, "pull {image}"),
            Self::StartCleanup { modules, .. } => write!(f, "take out {}", modules.join(", ")),
            Self::StartHostDriver { .. } => write!(f, "have the host load its driver"),
            Self::StartValidation { validation, .. } => {
                write!(f, "start the validation pod of image {}", validation.image)
            }
            Self::AskForImages { kernels, .. } => write!(f, "ask KMM for images of {} kernels", kernels.len()),
            Self::WritePreflightStatus { preflight, .. } => write!(f, "write the status of CXIPreflight {preflight}"),
            Self::DeletePreflight { preflight, .. } => write!(f, "delete CXIPreflight {preflight}: its time is over"),
            Self::DeleteOwnPod { name, .. } => write!(f, "delete pod {name}"),
            Self::Evict { pod, .. } => write!(f, "evict {}", pod.full_name()),
            Self::ForceDelete { pod, .. } => write!(f, "delete {}", pod.full_name()),
            Self::Look { .. } => write!(f, "look without a cache"),
            Self::Announce(_) => write!(f, "announce"),
        }
    }
}
