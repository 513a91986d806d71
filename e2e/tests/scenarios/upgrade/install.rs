//! Installation, and an upgrade that disturbs nobody.

use anyhow::{Result, ensure};
use cxi_api::names::DRIVER_VERSION_LABEL;
use cxi_e2e::scenario::{NEW, OLD, Scenario};

use super::at_once;

#[tokio::test(flavor = "multi_thread")]
async fn six_nodes_are_loaded_verified_and_offered() -> Result<()> {
    let s = Scenario::installed(6, |_| ()).await?;

    s.all_run(OLD).await?;
    for node in &s.nodes {
        ensure!(s.offered(node).await? == 200, "two NICs, each for a hundred pods");
        let labels = s.harness.node(node).await?.metadata.labels.unwrap_or_default();
        ensure!(
            labels.get(DRIVER_VERSION_LABEL).map(String::as_str) == Some(OLD),
            "{node} is labelled with its release"
        );
    }
    let status = s.status().await?;
    ensure!((status.total, status.ready, status.updated, status.failed) == (6, 6, 6, 0), "{status:?}");
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_nodes_are_upgraded_with_one_unload_each() -> Result<()> {
    let s = Scenario::installed(4, at_once(2)).await?;

    s.upgrade_to(NEW).await?;
    s.verified().await?;

    s.all_run(NEW).await?;
    for node in &s.nodes {
        ensure!(s.unloads(node) == 1, "the driver of {node} was taken out once");
    }
    s.finish().await
}
