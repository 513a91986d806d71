//! The caches, one per kind, and the watches that feed them.

use std::{fmt::Debug, sync::Arc};

use cxi_api::{
    CXIDriver, CXINode,
    kmm::{Module, ModuleImagesConfig, NodeModulesConfig},
    names::{MANAGED_BY_LABEL, OPERATOR},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::DaemonSet,
        core::v1::{ConfigMap, Node, Pod},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{Api, Client, Resource, core::DeserializeGuard, runtime::watcher::Config};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    cache::{Cache, Served},
    health::Health,
    observe::{ByName, Snapshot, prune},
    watch,
};

/// Everything that is watched.
pub struct Caches {
    /// All CXIDrivers.
    pub drivers: Arc<Cache<CXIDriver>>,
    /// All CXINodes.
    pub records: Arc<Cache<CXINode>>,
    /// All Nodes.
    pub nodes: Arc<Cache<Node>>,
    /// Pods of all namespaces that have not ended and request an extended resource.
    pub holders: Arc<Cache<Pod>>,
    /// Pods of our namespace: our own and KMM's.
    pub own_pods: Arc<Cache<Pod>>,
    /// All PodDisruptionBudgets.
    pub budgets: Arc<Cache<PodDisruptionBudget>>,
    /// Our DaemonSets.
    pub daemonsets: Arc<Cache<DaemonSet>>,
    /// Our KMM Modules.
    pub modules: Arc<Cache<Module>>,
    /// Containerfiles that KMM builds images by.
    pub containerfiles: Arc<Cache<ConfigMap>>,
    /// KMM's lists of images, of our namespace.
    pub images: Arc<Cache<ModuleImagesConfig>>,
    /// What KMM wants and has on each node.
    pub loaded: Arc<Cache<NodeModulesConfig>>,
}

impl Caches {
    /// Empty caches that tell `changed` of every change.
    pub fn new(changed: &Arc<Notify>) -> Self {
        let new = || changed.clone();
        Self {
            drivers: Arc::new(Cache::new("CXIDriver", true, prune::plain, new())),
            records: Arc::new(Cache::new("CXINode", true, prune::plain, new())),
            nodes: Arc::new(Cache::new("Node", true, prune::node, new())),
            holders: Arc::new(Cache::new("Pod", true, prune::holder, new())),
            own_pods: Arc::new(Cache::new("Pod", true, prune::own_pod, new())),
            // A budget that cannot be read is still obeyed: it is the API server that refuses.
            budgets: Arc::new(Cache::new("PodDisruptionBudget", false, prune::plain, new())),
            daemonsets: Arc::new(Cache::new("DaemonSet", true, prune::daemonset, new())),
            modules: Arc::new(Cache::new("Module", true, prune::plain, new())),
            // One that cannot be read is there all the same, for KMM to complain about.
            containerfiles: Arc::new(Cache::new("ConfigMap", false, prune::config_map, new())),
            // Without it no image counts as verified, and nothing moves.
            images: Arc::new(Cache::new("ModuleImagesConfig", false, prune::plain, new())),
            loaded: Arc::new(Cache::new("NodeModulesConfig", true, prune::plain, new())),
        }
    }

    /// Starts the watches; they end when the set is dropped.
    pub fn watch(&self, client: &Client, namespace: &str, health: &Health) -> JoinSet<()> {
        let mut tasks = Tasks { set: JoinSet::new(), client, namespace, health };
        let ours = Config::default().labels(&format!("{MANAGED_BY_LABEL}={OPERATOR}"));
        tasks.everywhere(&self.drivers, Config::default());
        tasks.everywhere(&self.records, Config::default());
        tasks.everywhere(&self.nodes, Config::default());
        let not_ended = Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        tasks.everywhere(&self.holders, not_ended);
        tasks.here(&self.own_pods, Config::default());
        tasks.everywhere(&self.budgets, Config::default());
        tasks.here(&self.daemonsets, ours.clone());
        tasks.here(&self.modules, ours.clone());
        tasks.here(&self.containerfiles, ours);
        tasks.here(&self.images, Config::default());
        tasks.everywhere(&self.loaded, Config::default());
        tasks.set
    }

    /// What still has to be read before anything can be planned, or cannot be read.
    pub fn waiting_for(&self) -> Option<String> {
        need(&self.drivers)
            .or_else(|| need(&self.records))
            .or_else(|| need(&self.nodes))
            .or_else(|| need(&self.holders))
            .or_else(|| need(&self.own_pods))
            .or_else(|| need(&self.budgets))
            .or_else(|| need(&self.daemonsets))
            .or_else(|| need(&self.containerfiles))
            .or_else(|| need_if_served(&self.modules))
            .or_else(|| need_if_served(&self.images))
            .or_else(|| need_if_served(&self.loaded))
    }

    /// Whether all of KMM's kinds that are needed are served and read.
    pub fn kmm_present(&self) -> bool {
        [self.modules.served(), self.images.served(), self.loaded.served()] == [Served::Yes; 3]
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            kmm_present: self.kmm_present(),
            drivers: self.drivers.all(),
            records: self.records.all(),
            nodes: self.nodes.all(),
            holders: self.holders.all(),
            own_pods: self.own_pods.all(),
            budgets: self.budgets.all(),
            daemonsets: self.daemonsets.all(),
            modules: self.modules.all(),
            containerfiles: self.containerfiles.all(),
            images: self.images.all(),
            loaded: self.loaded.all(),
            by_name: ByName::default(),
        }
    }
}

fn need<K: Resource<DynamicType = ()> + Clone + PartialEq>(cache: &Cache<K>) -> Option<String> {
    if cache.synced() { cache.blind_to() } else { Some(format!("{} not listed yet", cache.kind())) }
}

/// A kind that is not installed has no objects.
fn need_if_served<K: Resource<DynamicType = ()> + Clone + PartialEq>(cache: &Cache<K>) -> Option<String> {
    if cache.served() == Served::No { cache.blind_to() } else { need(cache) }
}

struct Tasks<'a> {
    set: JoinSet<()>,
    client: &'a Client,
    namespace: &'a str,
    health: &'a Health,
}

impl Tasks<'_> {
    fn everywhere<K>(&mut self, cache: &Arc<Cache<K>>, config: Config)
    where
        K: Resource<DynamicType = ()> + Clone + PartialEq + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.spawn(Api::all(self.client.clone()), cache, config);
    }

    fn here<K>(&mut self, cache: &Arc<Cache<K>>, config: Config)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + PartialEq + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.spawn(Api::namespaced(self.client.clone(), self.namespace), cache, config);
    }

    fn spawn<K>(&mut self, api: Api<DeserializeGuard<K>>, cache: &Arc<Cache<K>>, config: Config)
    where
        K: Resource<DynamicType = ()> + Clone + PartialEq + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let pulse = self.health.expect(format!("watch of {}", cache.kind()), 3 * watch::SILENCE);
        self.set.spawn(watch::run(api, config, cache.clone(), pulse));
    }
}
