//! Soft nodes: kubelets, device managers, agents and machines that exist only as objects in the API. One engine runs any
//! number of them with a fixed number of watches.
//!
//! What they do not do: run anything. What a real kubelet would not tell the API server, they do not tell it either.

mod agents;
mod devices;
mod engine;
mod faults;
mod machine;
mod node;
mod plan;
mod plugin;
mod render;
mod report;
mod runtime;
mod shape;
mod state;
mod tree;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use cxi_hardware::Root;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    driver_model::{BuildOf, Registry},
    truth::Record,
    wait::wait_for,
};

pub use faults::LoadFailure;
pub(crate) use machine::HOST;
pub use plan::{IGNORE_SIGTERM, RUN_FOR};
pub use shape::{HostDriver, KERNEL, NIC_LABEL, NodeShape, Pace};

use agents::Agents;
use engine::Shared;
use node::SoftNode;
use state::State;

pub(crate) use plan::extended_requests;

/// Any number of soft nodes of one cluster. Clones are handles of the same nodes; they stop with [`SoftCluster::stop`] or
/// when the last handle is dropped.
#[derive(Clone)]
pub struct SoftCluster {
    client: Client,
    shared: Arc<Shared>,
    running: Arc<Running>,
    /// The real ones; without them a node reports by itself.
    agents: Option<Arc<Agents>>,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What is true of a node's machine at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTruth {
    /// Of the running boot.
    pub boot_id: String,
    /// Running kernel.
    pub kernel: String,
    /// What the driver that binds the NICs was built from.
    pub driver: Option<BuildOf>,
    /// KMM Module that brought the driver in, or `host`.
    pub owner: Option<String>,
    /// Number of modules of the stack in the kernel.
    pub modules: usize,
    /// Pods with a device open, as `namespace/name`.
    pub pods: Vec<String>,
    /// Processes outside Kubernetes with a device open.
    pub processes: Vec<String>,
}

impl SoftCluster {
    /// Starts without nodes. `registry` says which images can be pulled; KMM's worker must be in it.
    pub fn start(client: Client, registry: Registry, pace: Pace) -> Self {
        let stop = CancellationToken::new();
        let (shared, tasks) = engine::start(&client, State::new(registry, pace), &stop);
        Self { client, shared, running: Arc::new(Running { stop, tasks: Mutex::new(tasks) }), agents: None }
    }

    /// Lets the real node agent report for every node that is added from now on, from files that show what the kernel
    /// of that node would, and has the real device plugin's decisions made on what it finds there. `client` should not repeat requests by itself.
    ///
    /// # Errors
    /// If there is no room for the files.
    pub fn with_real_agents(mut self, client: Client) -> Result<Self> {
        let heartbeat = self.shared.state().pace.report;
        self.agents = Some(Arc::new(Agents::new(client, heartbeat)?));
        Ok(self)
    }

    /// Stops everything and returns when no write is under way any more. The objects stay.
    pub async fn stop(&self) {
        self.running.stop.cancel();
        let tasks = {
            let mut tasks = self.running.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        engine::ended(tasks).await;
    }

    /// Adds `count` nodes named `<prefix>-01` and on, and returns their names. They register by themselves.
    pub fn add_nodes(&self, prefix: &str, count: usize, shape: &NodeShape) -> Vec<String> {
        let names: Vec<String> = (1..=count).map(|number| format!("{prefix}-{number:02}")).collect();
        for name in &names {
            self.add_node(name, shape.clone());
        }
        names
    }

    /// Adds one node. With real agents only inside a tokio runtime.
    pub fn add_node(&self, name: &str, shape: NodeShape) {
        let mut state = self.shared.state();
        let mut node = SoftNode::new(name, shape, state.now());
        if let Some(agents) = &self.agents {
            let mut tasks = self.running.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            node = agents.start(node, &self.running.stop, &mut tasks);
        }
        state.add(node);
        drop(state);
        self.shared.wake(name);
    }

    /// Takes the machine away and deletes its Node. Its pods stay until the pod garbage collector takes them.
    ///
    /// # Errors
    /// If the API server does not delete the Node.
    pub async fn remove_node(&self, name: &str) -> Result<()> {
        self.shared.state().remove(name);
        self.agents.iter().for_each(|agents| agents.end(name));
        engine::delete_node(&self.client, name).await.with_context(|| format!("delete node {name}"))
    }

    /// Deletes the Node and registers a new machine under the same name: another UID, nothing loaded.
    ///
    /// # Errors
    /// If there is no such node, or the API server does not delete it.
    pub async fn recreate_node(&self, name: &str) -> Result<()> {
        let shape = {
            let state = self.shared.state();
            state.nodes.get(name).with_context(|| format!("no soft node {name}"))?.shape.clone()
        };
        self.remove_node(name).await?;
        let nodes: Api<Node> = Api::all(self.client.clone());
        while nodes.get_opt(name).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.add_node(name, shape);
        Ok(())
    }

    /// Names of the nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.shared.state().nodes.keys().cloned().collect()
    }

    /// Waits until every node has registered and said that it is Ready.
    ///
    /// # Errors
    /// If one has not within `limit`.
    pub async fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        let waiting = || {
            let state = self.shared.state();
            state.nodes.values().filter(|node| !node.is_published()).map(|node| node.name.clone()).collect()
        };
        let attempt = || async { Ok(Vec::<String>::is_empty(&waiting()).then_some(())) };
        wait_for("all soft nodes register", limit, attempt, || async { waiting().join(" ") }).await
    }

    /// What is true of a node's machine.
    pub fn truth(&self, name: &str) -> Option<NodeTruth> {
        let state = self.shared.state();
        let machine = &state.nodes.get(name)?.machine;
        Some(NodeTruth {
            boot_id: machine.boot_id.clone(),
            kernel: machine.kernel.clone(),
            driver: machine.driver.bound().cloned(),
            owner: machine.owner.clone(),
            modules: machine.driver.modules().len(),
            pods: machine.open.values().map(|process| process.name.clone()).collect(),
            processes: machine.processes.iter().map(|process| process.name.clone()).collect(),
        })
    }

    /// Where the files of a node are, which real agents read.
    ///
    /// # Errors
    /// If there are no real agents.
    pub fn files(&self, node: &str) -> Result<Root> {
        Ok(self.agents.as_ref().context("soft nodes have files only where real agents read them")?.files(node))
    }

    /// Everything that happened on the machines so far.
    pub fn records(&self) -> Vec<Record> {
        self.shared.state().records.clone()
    }

    /// Everything that happened so far and from now on.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Record> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.shared.state();
        for record in &state.records {
            // The receiver is here.
            let _ = sender.send(record.clone());
        }
        state.listeners.push(sender);
        receiver
    }

    /// Changes what can be pulled.
    pub fn with_registry<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        change(&mut self.shared.state().registry)
    }
}
