//! Everything that was seen at one moment. Plans are made from it, and writes are guarded by it.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use crate::seen::{
    Budget, Containerfile, DaemonSet, Driver, Images, Kind, Loaded, Module, Node, Object, OwnPod, Pod, Preflight,
    Record,
};

/// See the module; the fields are those of [`super::Caches`].
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Whether KMM's API is served.
    pub kmm_present: bool,
    /// CXIDrivers.
    pub drivers: Vec<Arc<Object<Driver>>>,
    /// CXIPreflights.
    pub preflights: Vec<Arc<Object<Preflight>>>,
    /// CXINodes.
    pub records: Vec<Arc<Object<Record>>>,
    /// Nodes.
    pub nodes: Vec<Arc<Object<Node>>>,
    /// Pods that may hold the device.
    pub holders: Vec<Arc<Object<Pod>>>,
    /// Pods of our namespace.
    pub own_pods: Vec<Arc<Object<OwnPod>>>,
    /// PodDisruptionBudgets.
    pub budgets: Vec<Arc<Object<Budget>>>,
    /// Our DaemonSets.
    pub daemonsets: Vec<Arc<Object<DaemonSet>>>,
    /// Our Modules.
    pub modules: Vec<Arc<Object<Module>>>,
    /// Containerfiles that KMM builds images by, without their text.
    pub containerfiles: Vec<Arc<Object<Containerfile>>>,
    /// KMM's lists of images.
    pub images: Vec<Arc<Object<Images>>>,
    /// What KMM has on the nodes.
    pub loaded: Vec<Arc<Object<Loaded>>>,
    /// Nodes and CXINodes by name.
    pub by_name: ByName,
}

/// Nodes and CXINodes by name, sorted when first asked for: thousands of actions of one plan may each ask for its own. From then on the
/// snapshot is not changed; a copy sorts for itself.
#[derive(Default)]
pub struct ByName {
    records: OnceLock<HashMap<String, Arc<Object<Record>>>>,
    nodes: OnceLock<HashMap<String, Arc<Object<Node>>>>,
}

impl Clone for ByName {
    fn clone(&self) -> Self {
        Self::default()
    }
}

fn sorted<K: Kind>(all: &[Arc<Object<K>>]) -> HashMap<String, Arc<Object<K>>> {
    all.iter().map(|one| (one.id.name().to_owned(), one.clone())).collect()
}

impl Snapshot {
    /// A CXIDriver, whether it can be read or not.
    pub fn driver(&self, name: &str) -> Option<&Arc<Object<Driver>>> {
        named(&self.drivers, name)
    }

    /// A CXIPreflight, whether it can be read or not.
    pub fn preflight(&self, name: &str) -> Option<&Arc<Object<Preflight>>> {
        named(&self.preflights, name)
    }

    /// A CXINode.
    pub fn record(&self, node: &str) -> Option<&Arc<Object<Record>>> {
        self.by_name.records.get_or_init(|| sorted(&self.records)).get(node)
    }

    /// A Node.
    pub fn node(&self, name: &str) -> Option<&Arc<Object<Node>>> {
        self.by_name.nodes.get_or_init(|| sorted(&self.nodes)).get(name)
    }

    /// A Module.
    pub fn module(&self, name: &str) -> Option<&Arc<Object<Module>>> {
        named(&self.modules, name)
    }

    /// A DaemonSet.
    pub fn daemonset(&self, name: &str) -> Option<&Arc<Object<DaemonSet>>> {
        named(&self.daemonsets, name)
    }
}

fn named<'a, K: Kind>(objects: &'a [Arc<Object<K>>], name: &str) -> Option<&'a Arc<Object<K>>> {
    objects.iter().find(|object| object.id.name() == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::seen::given;

    #[test]
    fn a_copy_that_is_changed_knows_its_own() {
        let node = |name: &str| given::<Node>(&json!({"metadata": {"name": name}}));
        let seen = Snapshot { nodes: vec![node("a"), node("b")], ..Snapshot::default() };
        assert!(seen.node("b").is_some() && seen.node("c").is_none() && seen.record("a").is_none());
        let mut copy = seen.clone();
        copy.nodes = vec![node("c")];
        assert!(copy.node("c").is_some() && copy.node("b").is_none());
    }
}
