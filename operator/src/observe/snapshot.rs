//! Everything that was seen at one moment. Plans are made from it, and writes are guarded by it.

use std::sync::Arc;

use crate::observe::seen::{
    Budget, Containerfile, DaemonSet, Driver, Images, Kind, Loaded, Module, Node, Object, OwnPod, Pod, Record,
};

/// See the module; the fields are those of [`super::Caches`].
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Whether KMM's API is served.
    pub kmm_present: bool,
    /// CXIDrivers.
    pub drivers: Vec<Arc<Object<Driver>>>,
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
}

impl Snapshot {
    /// A CXIDriver, whether it can be read or not.
    pub fn driver(&self, name: &str) -> Option<&Arc<Object<Driver>>> {
        named(&self.drivers, name)
    }

    /// A CXINode.
    pub fn record(&self, node: &str) -> Option<&Arc<Object<Record>>> {
        named(&self.records, node)
    }

    /// A Node.
    pub fn node(&self, name: &str) -> Option<&Arc<Object<Node>>> {
        named(&self.nodes, name)
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
