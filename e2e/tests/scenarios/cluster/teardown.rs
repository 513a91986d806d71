//! The way down: a selector that shrinks, a CXIDriver that is deleted, and one that is deleted and leaves its drivers.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_api::{
    kmm::Module,
    names::{DRIVER_LABEL, DRIVER_VERSION_LABEL, KMM_VERSION_PREFIX, device_plugin_gate},
};
use cxi_e2e::{
    jobs::JobShape,
    oracle::Allowed,
    scenario::{DRIVER, OLD, Scenario},
    soft_node::NIC_LABEL,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, api::ListParams};
use serde_json::json;
use tokio::task::block_in_place;

use crate::uninstall;

/// Labels of ours and of KMM on a node.
async fn labels(scenario: &Scenario, node: &str) -> Result<Vec<String>> {
    let labels = scenario.harness.node(node).await?.metadata.labels.unwrap_or_default();
    Ok(labels.into_keys().filter(|key| key.contains("cxi.hpe.com") || key.contains("kmm.node")).collect())
}

async fn modules(scenario: &Scenario) -> Result<usize> {
    let modules: Api<Module> = Api::all(scenario.harness.client.clone());
    Ok(modules.list(&ListParams::default()).await?.items.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_no_longer_selected_is_taken_down_in_order_and_others_stay() -> Result<()> {
    let mut scenario = Scenario::installed(2, |_| ()).await?;
    scenario.harness.jobs.deployment("job", 1, &JobShape::default()).await?;
    scenario.until("the job runs", || async { Ok(scenario.harness.jobs.running_on("job").await?.len() == 1) }).await?;
    let node = scenario.harness.jobs.running_on("job").await?.remove(0);

    scenario.allow(&Allowed::ForeignEdit(node.clone()), Duration::from_secs(2));
    scenario.harness.patch_node(&node, &json!({ "metadata": { "labels": { NIC_LABEL: null } } })).await?;
    scenario
        .until("nothing of ours is left on the node", || async {
            let record = scenario.harness.cxi_node(&node).await?;
            Ok(labels(&scenario, &node).await?.is_empty() && record.is_none() && scenario.driver(&node).is_none())
        })
        .await?;
    scenario.nodes.retain(|name| *name != node);
    scenario.verified().await?;
    scenario.all_run(OLD).await?;
    ensure!(scenario.unloads(&scenario.nodes[0]) == 0, "a node that is still selected was moved");
    scenario
        .until("the job runs on the other node", || async {
            Ok(scenario.harness.jobs.running_on("job").await? == scenario.nodes)
        })
        .await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_label_that_comes_back_at_once_starts_nothing() -> Result<()> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    scenario.allow(&Allowed::ForeignEdit("n-01".to_owned()), Duration::from_secs(5));
    for value in [None, Some("true")] {
        let labels = json!({ NIC_LABEL: value });
        scenario.harness.patch_node("n-01", &json!({ "metadata": { "labels": labels } })).await?;
    }
    let untouched = || async { Ok(scenario.offered("n-01").await? > 0 && scenario.unloads("n-01") == 0) };
    scenario.stays("the node is left alone", Duration::from_secs(6), untouched).await?;
    scenario.verified().await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_driver_takes_its_nodes_down_in_order_within_the_budget_and_leaves_nothing() -> Result<()> {
    let scenario = Scenario::installed(3, |_| ()).await?;
    scenario.harness.jobs.batch("job", 1, &JobShape::default()).await?;
    scenario.until("the job runs", || async { Ok(scenario.harness.jobs.running_on("job").await?.len() == 1) }).await?;
    block_in_place(|| uninstall::delete_drivers(&scenario))?;
    ensure!(scenario.harness.driver(DRIVER).await?.is_none(), "the command came back before the CXIDriver was gone");
    for node in &scenario.nodes {
        ensure!(scenario.driver(node).is_none(), "{node} has a driver");
        ensure!(scenario.unloads(node) == 1, "{node} was unloaded {} times", scenario.unloads(node));
    }
    scenario
        .until("nothing of ours is left in the cluster", || async {
            let mut left = modules(&scenario).await? + scenario.harness.cxi_nodes().await?.len();
            let daemonsets: Api<DaemonSet> = Api::all(scenario.harness.client.clone());
            left += daemonsets.list(&ListParams::default()).await?.items.len();
            for node in &scenario.nodes {
                left += labels(&scenario, node).await?.len();
                let spec = scenario.harness.node(node).await?.spec.unwrap_or_default();
                left += spec.taints.unwrap_or_default().len();
            }
            Ok(left == 0)
        })
        .await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaned_driver_stays_loaded_and_is_taken_over_without_a_reload() -> Result<()> {
    let scenario = Scenario::installed(2, |_| ()).await?;
    // All gates close at once, because nobody is left to serve them: the administrator asked for that.
    for node in &scenario.nodes {
        scenario.allow(&Allowed::OurLabels(node.clone()), Duration::from_secs(10));
    }
    block_in_place(|| uninstall::orphan_drivers(&scenario))?;
    ensure!(scenario.harness.driver(DRIVER).await?.is_none(), "the command came back before the CXIDriver was gone");
    for node in &scenario.nodes {
        let labels = labels(&scenario, node).await?;
        ensure!(labels.iter().any(|key| key.starts_with(KMM_VERSION_PREFIX)), "{node} lost KMM's label");
        ensure!(labels.iter().any(|key| key == DRIVER_LABEL), "{node} lost the label that KMM's Module selects by");
        ensure!(!labels.contains(&device_plugin_gate(DRIVER)), "{node} has an open gate");
    }
    let loaded = || async {
        let loaded = scenario.nodes.iter().all(|node| scenario.driver(node).as_deref() == Some(OLD));
        Ok(loaded && modules(&scenario).await? == 1)
    };
    scenario.stays("the drivers are left alone", Duration::from_secs(4), loaded).await?;
    block_in_place(|| uninstall::lose_the_account_and_put_it_back(&scenario))?;
    scenario.harness.soft.reboot("n-01", None)?;
    scenario.until("the node has lost its driver", || async { Ok(scenario.driver("n-01").is_none()) }).await?;
    scenario.until("KMM has loaded it again", loaded).await?;

    scenario.install(|_| ()).await?;
    scenario.all_run(OLD).await?;
    for node in &scenario.nodes {
        ensure!(scenario.unloads(node) == 0, "{node} was reloaded");
        let labels = labels(&scenario, node).await?;
        ensure!(labels.iter().any(|key| key == DRIVER_VERSION_LABEL), "{node} does not say what it runs");
    }
    scenario.finish().await
}
