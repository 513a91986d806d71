//! Fifty nodes, some of them down for other reasons.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use cxi_api::{Phase, Reason, names::DEFAULT_RESOURCE};
use cxi_e2e::{
    harness::HarnessOptions,
    plain::Plain,
    scenario::{DRIVER, NEW, OLD, Scenario},
    soft_node::NodeShape,
    watch::{Seen, follow},
};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt, runtime::watcher};
use tokio_util::sync::CancellationToken;

/// Fifty nodes are more than a busy machine does in the time of a small scenario.
const PATIENCE: Duration = Duration::from_mins(5);

/// Whether a job could use the node: Ready, and the kubelet offers NICs.
fn is_available(node: &Node) -> bool {
    let status = node.status.clone().unwrap_or_default();
    let ready = status.conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let offered = status.allocatable.unwrap_or_default().get(DEFAULT_RESOURCE).is_some_and(|count| count.0 != "0");
    ready && offered
}

/// Counts at every event of any Node how many are unavailable, and keeps the most.
struct Tally {
    most: Arc<Mutex<usize>>,
    stop: CancellationToken,
}

impl Tally {
    fn start(client: &Client) -> Self {
        let (most, stop) = (Arc::new(Mutex::new(0)), CancellationToken::new());
        let kept = most.clone();
        let mut available: BTreeMap<String, bool> = BTreeMap::new();
        let mut listed = false;
        tokio::spawn(follow(
            Api::<Plain<Node>>::all(client.clone()),
            watcher::Config::default(),
            stop.clone(),
            move |seen| {
                match seen {
                    Seen::Applied(node) => drop(available.insert(node.name_any(), is_available(&node))),
                    Seen::Gone(node) => drop(available.remove(&node.name_any())),
                    Seen::Synced => listed = true,
                }
                if listed {
                    let now = available.values().filter(|available| !**available).count();
                    let mut most = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    *most = (*most).max(now);
                }
            },
        ));
        Self { most, stop }
    }

    fn most(&self) -> usize {
        *self.most.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_nodes_never_more_than_five_are_unavailable_whatever_the_reason() -> Result<()> {
    // KMM asks the API server 20 times a second and no more: fifty loads at once take it a while.
    let operator_args = ["--load-timeout=5m", "--unload-timeout=5m", "--give-back-timeout=5m", "--prefetch-timeout=5m"];
    let options =
        HarnessOptions { operator_args: operator_args.map(str::to_owned).to_vec(), ..HarnessOptions::default() };
    let scenario = Scenario::start_with(options, 50, &NodeShape::default()).await?;
    scenario.harness.create_driver(DRIVER, OLD, |_| ()).await?;
    scenario.harness.wait_verified(DRIVER, 50, PATIENCE).await?;
    let lost = ["n-07", "n-31"];
    for node in lost {
        scenario.harness.soft.lose(node)?;
    }
    scenario
        .until("the lost nodes are known", || async {
            let mut available = 0;
            for node in lost {
                available += usize::from(is_available(&scenario.harness.node(node).await?));
            }
            Ok(available == 0)
        })
        .await?;
    // The time that a watch may be behind.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let tally = Tally::start(&scenario.harness.client);
    scenario.upgrade_to(NEW).await?;
    scenario
        .harness
        .wait_until("all nodes but the lost ones are moved", PATIENCE, async |_| {
            let status = scenario.status().await?;
            Ok(status.updated == 48 && status.target_version.as_deref() == Some(NEW))
        })
        .await?;
    ensure!(tally.most() <= 5, "{} nodes were unavailable at once", tally.most());
    ensure!(tally.most() == 5, "at most {} were unavailable: the budget was not used", tally.most());
    for node in lost {
        scenario.until_blocked(node, Reason::NotReady).await?;
        ensure!(scenario.driver(node).as_deref() == Some(OLD), "{node} was moved");
        scenario.harness.soft.recover(node)?;
    }
    for node in lost {
        scenario.until_phase(node, Phase::UpToDate).await?;
    }
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    ensure!(tally.most() <= 5, "{} nodes were unavailable at once", tally.most());
    scenario.finish().await
}
