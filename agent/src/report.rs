//! `cxi-agent report`: what the node is, for as long as it runs.
//!
//! ```text
//! CXINode ──► node ──┬─► looker ──► Taken ──┬─► publisher ──► CXINode.status.node
//! /sys /dev /proc ───┘                      └─► inventory ──► CXIDevices
//! ```
//!
//! Each arrow inside is a watch channel with one writer: a reader sees the latest value. The looker does not know
//! whether a report arrives. While the API server is away it goes on looking, and the writers report the latest look
//! when it is back. A look that failed is no look: nothing is written that could be read as "nothing there".

mod args;
mod bounds;
mod content;
mod device;
mod firmware;
mod holders;
mod inventory;
mod kernel_log;
mod nic;
mod node;
mod open_files;
mod publisher;
mod retry_handler;
mod scan;
mod scanner;
mod services;
mod slow_facts;

use std::time::Duration;

use cxi_api::{CXIDevice, CXINode, lenient::Lenient};
use cxi_hardware::{Root, retry_handler::Expectation};
use kube::api::Api;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use args::Args;
pub use kernel_log::KernelLog;
pub use scan::{NodeScan, NodeScanError};

use node::NodeView;
use scanner::Scanner;

/// What is reported, and how often.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the Node, and so of the CXINode.
    pub node: String,
    /// Where the node is read.
    pub root: Root,
    /// Time between two looks.
    pub interval: Duration,
    /// Time after which a report is written although nothing changed; its list of open files is no older either.
    pub heartbeat: Duration,
    /// What is expected of the NICs' retry handlers.
    pub retry_handler: Expectation,
    /// Where the kernel says what is wrong with the stack.
    pub kernel_log: KernelLog,
}

/// A request to the API server that takes longer has failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// The report cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A task panicked.
    #[error("a task of the report was lost")]
    Lost(#[from] JoinError),
    /// A task ended unasked.
    #[error("a task of the report ended before its time")]
    Ended,
}

/// Reports until `shutdown`. Several of these may run in one process, each for another node. `client` had better not
/// repeat requests itself (`kube::Config::default_retry`): what it repeats is an older look.
///
/// # Errors
/// When a task is lost. Neither an API server that is away nor a node that cannot be read is an error: both are tried
/// again.
pub async fn run(config: Config, client: kube::Client, shutdown: CancellationToken) -> Result<(), ReportError> {
    info!(node = config.node, "reporting");
    let nodes: Api<Lenient<CXINode>> = Api::all(client.clone());
    let devices: Api<Lenient<CXIDevice>> = Api::all(client);
    let (view_sender, view) = watch::channel(NodeView::Unknown);
    let (look_sender, looks) = watch::channel(None);
    let (event_sender, device_events) = mpsc::unbounded_channel();

    let mut tasks = JoinSet::new();
    tasks.spawn(node::follow(nodes.clone(), config.node.clone(), view_sender));
    tasks.spawn(inventory::follow(devices.clone(), config.node.clone(), event_sender));
    let root = config.root.clone();
    let mut remembered = scan::Remembered::new(config.heartbeat, config.kernel_log);
    let looker = Scanner { interval: config.interval, view: view.clone(), looks: look_sender };
    tasks.spawn(looker.run(move |view| NodeScan::take(&root, &mut remembered, view)));
    tasks.spawn(publisher::run(nodes, config.node.clone(), config.heartbeat, looks.clone()));
    tasks.spawn(inventory::run(devices, config.node.clone(), config.retry_handler, device_events, looks));
    tokio::select! {
        () = shutdown.cancelled() => {
            info!(node = config.node, "ending");
            Ok(())
        }
        ended = tasks.join_next() => match ended {
            Some(Err(error)) => Err(error.into()),
            Some(Ok(())) | None => Err(ReportError::Ended),
        },
    }
}
