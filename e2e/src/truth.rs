//! The ground truth: what really happened on the soft nodes, told in order by the nodes themselves. The oracle holds the
//! API's story against it.

use cxi_api::Timestamp;

/// One thing that happened on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub node: String,
    /// What.
    pub fact: Fact,
}

/// What happened. `owner` is the KMM Module on whose behalf it was done, or `host` where the host did it for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The machine started: no modules, no processes.
    Booted {
        /// Of this boot.
        boot_id: String,
        /// Running kernel.
        kernel: String,
    },
    /// The machine was taken away.
    Removed,
    /// Modules came in.
    Loaded {
        /// Whose.
        owner: String,
        /// Driver release.
        version: String,
        /// Which came in.
        modules: Vec<String>,
    },
    /// A load succeeded without doing anything, because all names were there.
    LoadedAlready {
        /// Who asked.
        owner: String,
        /// Release that was asked for.
        version: String,
        /// Release that is in the kernel.
        running: String,
    },
    /// A load failed.
    LoadFailed {
        /// Who asked.
        owner: String,
        /// Release that was asked for.
        version: String,
        /// What it said.
        message: String,
        /// Modules that are in the kernel after it.
        left: Vec<String>,
    },
    /// Modules went out by KMM; none when there were none.
    Unloaded {
        /// Who asked.
        owner: String,
        /// Which went.
        modules: Vec<String>,
    },
    /// An unload was refused because the device was in use.
    UnloadRefused {
        /// Who asked.
        owner: String,
        /// Pods that hold the device.
        pods: Vec<String>,
        /// Processes outside Kubernetes that hold it.
        processes: Vec<String>,
    },
    /// Leftovers were taken out by a clean-up pod.
    CleanedUp {
        /// Which went.
        modules: Vec<String>,
    },
    /// A pod's process has devices open.
    Opened {
        /// UID of the pod.
        uid: String,
        /// Namespace and name.
        pod: String,
    },
    /// A pod's process has ended.
    Closed {
        /// UID of the pod.
        uid: String,
    },
}
