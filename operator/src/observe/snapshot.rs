//! Everything that was seen at one moment. Plans are made from it, and writes are guarded by it.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use cxi_api::{
    CXIDriver, CXINode,
    kmm::{Module, ModuleImagesConfig, NodeModulesConfig},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{Resource, ResourceExt};

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
    /// Nodes and CXINodes by name.
    pub by_name: ByName,
}

/// Nodes and CXINodes by name, sorted when first asked for: thousands of actions of one plan may each ask for its own. From then on the
/// snapshot is not changed; a copy sorts for itself.
#[derive(Default)]
pub struct ByName {
    records: OnceLock<HashMap<String, Arc<CXINode>>>,
    nodes: OnceLock<HashMap<String, Arc<Node>>>,
}

impl Clone for ByName {
    fn clone(&self) -> Self {
        Self::default()
    }
}

fn sorted<K: Resource>(all: &[Arc<K>]) -> HashMap<String, Arc<K>> {
    all.iter().filter_map(|one| Some((one.meta().name.clone()?, one.clone()))).collect()
}

impl Snapshot {
    /// A CXIDriver.
    pub fn driver(&self, name: &str) -> Option<&Arc<CXIDriver>> {
        self.drivers.iter().find(|driver| driver.name_any() == name)
    }

    /// A CXINode.
    pub fn record(&self, node: &str) -> Option<&Arc<CXINode>> {
        self.by_name.records.get_or_init(|| sorted(&self.records)).get(node)
    }

    /// A Node.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.by_name.nodes.get_or_init(|| sorted(&self.nodes)).get(name)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_copy_that_is_changed_knows_its_own() {
        let node = |name: &str| Arc::new(serde_json::from_value::<Node>(json!({"metadata": {"name": name}})).unwrap());
        let seen = Snapshot { nodes: vec![node("a"), node("b")], ..Snapshot::default() };
        assert!(seen.node("b").is_some() && seen.node("c").is_none() && seen.record("a").is_none());
        let mut copy = seen.clone();
        copy.nodes = vec![node("c")];
        assert!(copy.node("c").is_some() && copy.node("b").is_none());
    }
}
