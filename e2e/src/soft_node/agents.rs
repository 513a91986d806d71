//! The real node agent on soft nodes: one process runs the report of many, each on the files of its own node.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use cxi_agent::{Expectation, report};
use cxi_hardware::Root;
use kube::Client;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{node::SoftNode, tree::Tree};

/// Between two looks of an agent.
const INTERVAL: Duration = Duration::from_millis(200);

/// The agents of all nodes of a cluster.
pub(super) struct Agents {
    client: Client,
    trees: TempDir,
    heartbeat: Duration,
    running: Mutex<HashMap<String, CancellationToken>>,
}

impl Agents {
    /// None yet. `client` should not repeat requests by itself.
    pub(super) fn new(client: Client, heartbeat: Duration) -> Result<Self> {
        let trees = tempfile::Builder::new().prefix("cxi-soft-nodes-").tempdir();
        let trees = trees.context("make a directory for the files of soft nodes")?;
        Ok(Self { client, trees, heartbeat, running: Mutex::default() })
    }

    /// Starts the agent of a node among `tasks`; it ends with `stop`.
    pub(super) fn start(&self, node: SoftNode, stop: &CancellationToken, tasks: &mut JoinSet<()>) -> SoftNode {
        let tree = Tree::new(self.trees.path().join(&node.name));
        let config = report::Config {
            node: node.name.clone(),
            root: tree.root(),
            interval: INTERVAL,
            heartbeat: self.heartbeat,
            retry_handler: Expectation::Ignore,
            kernel_log: report::KernelLog::Unread,
        };
        let stop = stop.child_token();
        let (client, stopped, name) = (self.client.clone(), stop.clone(), node.name.clone());
        tasks.spawn(async move {
            if let Err(error) = report::run(config, client, stopped).await {
                tracing::error!(node = name, %error, "the agent of a soft node ended");
            }
        });
        self.remember(node.name.clone(), stop);
        node.read_by(tree)
    }

    /// Where the files of a node are.
    pub(super) fn files(&self, node: &str) -> Root {
        Tree::root_in(&self.trees.path().join(node))
    }

    /// Ends the agent of a node.
    pub(super) fn end(&self, node: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = running.remove(node) {
            stop.cancel();
        }
    }

    fn remember(&self, node: String, stop: CancellationToken) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = running.insert(node, stop) {
            earlier.cancel();
        }
    }
}
