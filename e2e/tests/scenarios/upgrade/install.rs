//! Installation, and an upgrade that disturbs nobody.

use anyhow::{Context, Result, ensure};
use cxi_api::{driver::Modprobe, names::DRIVER_VERSION_LABEL};
use cxi_control_plane::NAMESPACE;
use cxi_e2e::scenario::{LONG, NEW, OLD, Scenario};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use tokio::time::timeout;

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

/// `modprobe` reads the parameters from the configuration of KMM's worker, as lines of their own: `manifests/src/kmm/modprobe.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn kmm_hands_parameters_to_its_worker_line_by_line() -> Result<()> {
    let s = Scenario::start(1).await?;
    let pods: Api<Pod> = Api::namespaced(s.harness.client.clone(), NAMESPACE);
    let workers = WatchParams::default().labels("kmm.node.kubernetes.io/worker-action");
    let events = pods.watch(&workers, "0").await.context("watch KMM's workers")?;
    pin_mut!(events);

    let parameters = ["disable_default_svc=0", "default_vnis=1,10"].map(str::to_owned).to_vec();
    s.install(|spec| {
        let parameters = [("cxi-ss1".to_owned(), parameters)].into();
        spec.source.modprobe = Some(Modprobe { parameters, ..Modprobe::default() });
    })
    .await?;
    let worker = loop {
        match timeout(LONG, events.next()).await.context("no worker came")?.context("the watch ended")?? {
            WatchEvent::Added(pod) => break pod,
            WatchEvent::Error(error) => return Err(error).context("watch KMM's workers"),
            _ => {}
        }
    };
    let config = worker.annotations().get("kmm.node.kubernetes.io/worker-config").context("its configuration")?;
    let lines: Vec<&str> = config.lines().map(str::trim).collect();
    for line in ["alias cxi-parameters cxi-user", "options cxi-ss1 disable_default_svc=0 default_vnis=1,10"] {
        ensure!(lines.contains(&line), "{line:?} is no line of\n{config}");
    }
    s.finish().await
}
