//! The caches, one per kind, and the watches that feed them.

use std::sync::Arc;

use cxi_api::names::{MANAGED_BY_LABEL, OPERATOR};
use kube::Client;
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    cache::{Cache, Served},
    endpoint::Endpoint,
    health::Health,
    observe::{
        Snapshot,
        seen::{
            Budget, Containerfile, DaemonSet, Driver, Images, Kind, Loaded, Module, Node, OwnPod, Pod, Preflight,
            Record,
        },
    },
    watch::{self, Selection},
};

/// Everything that is watched.
pub struct Caches {
    /// All CXIDrivers.
    pub drivers: Arc<Cache<Driver>>,
    /// All CXIPreflights.
    pub preflights: Arc<Cache<Preflight>>,
    /// All CXINodes.
    pub records: Arc<Cache<Record>>,
    /// All Nodes.
    pub nodes: Arc<Cache<Node>>,
    /// Pods of all namespaces that have not ended and request an extended resource.
    pub holders: Arc<Cache<Pod>>,
    /// Pods of our namespace: our own and KMM's.
    pub own_pods: Arc<Cache<OwnPod>>,
    /// All PodDisruptionBudgets.
    pub budgets: Arc<Cache<Budget>>,
    /// Our DaemonSets.
    pub daemonsets: Arc<Cache<DaemonSet>>,
    /// Our KMM Modules.
    pub modules: Arc<Cache<Module>>,
    /// Containerfiles that KMM builds images by.
    pub containerfiles: Arc<Cache<Containerfile>>,
    /// KMM's lists of images, of our namespace.
    pub images: Arc<Cache<Images>>,
    /// What KMM wants and has on each node.
    pub loaded: Arc<Cache<Loaded>>,
}

impl Caches {
    /// Empty caches that tell `changed` of every change.
    pub fn new(changed: &Arc<Notify>) -> Self {
        Self {
            drivers: new(changed),
            preflights: new(changed),
            records: new(changed),
            nodes: new(changed),
            holders: new(changed),
            own_pods: new(changed),
            budgets: new(changed),
            daemonsets: new(changed),
            modules: new(changed),
            containerfiles: new(changed),
            images: new(changed),
            loaded: new(changed),
        }
    }

    /// Starts the watches; they end when the set is dropped.
    pub fn watch(&self, client: &Client, namespace: &str, health: &Health) -> JoinSet<()> {
        let mut tasks = Tasks { set: JoinSet::new(), client, namespace, health };
        let all = Selection::default;
        let ours = || Selection { labels: Some(format!("{MANAGED_BY_LABEL}={OPERATOR}")), fields: None };
        let not_ended = "status.phase!=Succeeded,status.phase!=Failed".to_owned();
        tasks.everywhere(&self.drivers, all());
        tasks.everywhere(&self.preflights, all());
        tasks.everywhere(&self.records, all());
        tasks.everywhere(&self.nodes, all());
        tasks.everywhere(&self.holders, Selection { labels: None, fields: Some(not_ended) });
        tasks.here(&self.own_pods, all());
        tasks.everywhere(&self.budgets, all());
        tasks.here(&self.daemonsets, ours());
        tasks.here(&self.modules, ours());
        tasks.here(&self.containerfiles, ours());
        tasks.here(&self.images, all());
        tasks.everywhere(&self.loaded, all());
        tasks.set
    }

    /// What still has to be read before anything can be planned. One object that cannot be read is no reason to wait: it counts as
    /// what it may be, and the rest goes on.
    pub fn waiting_for(&self) -> Option<String> {
        need(&self.drivers)
            .or_else(|| need(&self.records))
            .or_else(|| need(&self.nodes))
            .or_else(|| need(&self.holders))
            .or_else(|| need(&self.own_pods))
            .or_else(|| need(&self.budgets))
            .or_else(|| need(&self.daemonsets))
            .or_else(|| need(&self.containerfiles))
            // An installation may be updated without its CustomResourceDefinitions.
            .or_else(|| need_if_served(&self.preflights))
            .or_else(|| need_if_served(&self.modules))
            .or_else(|| need_if_served(&self.images))
            .or_else(|| need_if_served(&self.loaded))
    }

    /// How often a cache found the API server's database put back to an earlier state.
    pub fn put_back(&self) -> u64 {
        self.drivers.put_back()
            + self.preflights.put_back()
            + self.records.put_back()
            + self.nodes.put_back()
            + self.holders.put_back()
            + self.own_pods.put_back()
            + self.budgets.put_back()
            + self.daemonsets.put_back()
            + self.containerfiles.put_back()
            + self.modules.put_back()
            + self.images.put_back()
            + self.loaded.put_back()
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
            preflights: self.preflights.all(),
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
            by_name: cxi_world::ByName::default(),
        }
    }
}

fn new<K: Kind>(changed: &Arc<Notify>) -> Arc<Cache<K>> {
    Arc::new(Cache::new(changed.clone()))
}

fn need<K: Kind>(cache: &Cache<K>) -> Option<String> {
    (!cache.synced()).then(|| format!("{} not listed yet", K::kind()))
}

/// A kind that is not installed has no objects.
fn need_if_served<K: Kind>(cache: &Cache<K>) -> Option<String> {
    if cache.served() == Served::No { None } else { need(cache) }
}

struct Tasks<'a> {
    set: JoinSet<()>,
    client: &'a Client,
    namespace: &'a str,
    health: &'a Health,
}

impl Tasks<'_> {
    fn everywhere<K: Kind>(&mut self, cache: &Arc<Cache<K>>, selection: Selection) {
        self.spawn(Endpoint::all(self.client), cache, selection);
    }

    fn here<K: Kind>(&mut self, cache: &Arc<Cache<K>>, selection: Selection) {
        self.spawn(Endpoint::within(self.client, self.namespace), cache, selection);
    }

    fn spawn<K: Kind>(&mut self, endpoint: Endpoint<K>, cache: &Arc<Cache<K>>, selection: Selection) {
        let pulse = self.health.expect(format!("watch of {}", K::kind()), 3 * watch::SILENCE);
        self.set.spawn(watch::run(endpoint, selection, cache.clone(), pulse));
    }
}
