//! Everything that was seen at one moment. Plans are made from it, and writes are guarded by it.

use std::sync::Arc;

use cxi_api::{
    CXIDriver, CXINode,
    kmm::{Module, ModuleImagesConfig, NodeModulesConfig},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::ResourceExt;

/// See the module; the fields are those of [`super::Caches`].
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Whether KMM's API is served.
    pub kmm_present: bool,
    /// CXIDrivers.
    pub drivers: Vec<Arc<CXIDriver>>,
    /// CXINodes.
    pub records: Vec<Arc<CXINode>>,
    /// Nodes.
    pub nodes: Vec<Arc<Node>>,
    /// Pods that may hold the device.
    pub holders: Vec<Arc<Pod>>,
    /// Pods of our namespace.
    pub own_pods: Vec<Arc<Pod>>,
    /// PodDisruptionBudgets.
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
    /// Our DaemonSets.
    pub daemonsets: Vec<Arc<DaemonSet>>,
    /// Our Modules.
    pub modules: Vec<Arc<Module>>,
    /// Containerfiles that KMM builds images by, without their text.
    pub containerfiles: Vec<Arc<ConfigMap>>,
    /// KMM's lists of images.
    pub images: Vec<Arc<ModuleImagesConfig>>,
    /// What KMM has on the nodes.
    pub loaded: Vec<Arc<NodeModulesConfig>>,
}

impl Snapshot {
    /// A CXIDriver.
    pub fn driver(&self, name: &str) -> Option<&Arc<CXIDriver>> {
        self.drivers.iter().find(|driver| driver.name_any() == name)
    }

    /// A CXINode.
    pub fn record(&self, node: &str) -> Option<&Arc<CXINode>> {
        self.records.iter().find(|record| record.metadata.name.as_deref() == Some(node))
    }

    /// A Node.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name))
    }

    /// A Module.
    pub fn module(&self, name: &str) -> Option<&Arc<Module>> {
        self.modules.iter().find(|module| module.metadata.name.as_deref() == Some(name))
    }

    /// A DaemonSet.
    pub fn daemonset(&self, name: &str) -> Option<&Arc<DaemonSet>> {
        self.daemonsets.iter().find(|daemonset| daemonset.metadata.name.as_deref() == Some(name))
    }
}
