//! The DaemonSets of a CXIDriver: where their pods run, and that they are gone when it is.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use cxi_api::names::ORPHAN_ANNOTATION;
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    harness::{AGENT_IMAGE, DEVICE_PLUGIN_IMAGE, Harness, HarnessOptions},
    soft_node::NodeShape,
};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;

const LONG: Duration = Duration::from_mins(2);

const AGENT: &str = "cxi-agent-cxi";
const PLUGIN: &str = "cxi-device-plugin-cxi";

#[tokio::test(flavor = "multi_thread")]
async fn agents_run_on_every_node_that_is_owned_and_go_with_the_last() -> Result<()> {
    let harness = Harness::start(HarnessOptions::default()).await?;
    harness.soft.add_nodes("n", 2, &NodeShape::default());
    let other = NodeShape { labels: [("rack".to_owned(), "7".to_owned())].into(), ..NodeShape::default() };
    harness.soft.add_nodes("other", 1, &other);
    harness.soft.wait_until_ready(LONG).await?;
    let operator = harness.spawn_operator(&[])?;
    harness.create_driver("cxi", "13.0.0", |_| ()).await?;
    harness.wait_verified("cxi", 2, LONG).await?;
    both_run(&harness).await?;

    // Closed or not, a node that is owned has its agent.
    let agents = pods(&harness, "agent").await?;
    harness.edit_driver("cxi", &json!({ "spec": { "devicePlugin": { "enabled": false } } })).await?;
    let gone = async |h: &Harness| Ok(pods(h, "device-plugin").await?.is_empty() && !exists(h, PLUGIN).await?);
    harness.wait_until("the device plugin is gone", LONG, gone).await?;
    ensure!(pods(&harness, "agent").await? == agents, "the agents stay as they are");
    harness.edit_driver("cxi", &json!({ "spec": { "devicePlugin": { "enabled": true } } })).await?;
    both_run(&harness).await?;

    harness.delete_driver("cxi").await?;
    nothing_is_left(&harness).await?;
    let unloaded = harness.soft.truth("n-01").is_some_and(|truth| truth.driver.is_none());
    ensure!(unloaded, "the driver is taken out while the agents are there to prove it");

    harness.create_driver("cxi", "13.0.0", |_| ()).await?;
    harness.wait_verified("cxi", 2, LONG).await?;
    both_run(&harness).await?;
    harness.edit_driver("cxi", &json!({ "metadata": { "annotations": { ORPHAN_ANNOTATION: "true" } } })).await?;
    harness.delete_driver("cxi").await?;
    nothing_is_left(&harness).await?;
    ensure!(harness.soft.truth("n-01").is_some_and(|truth| truth.driver.is_some()), "the driver stays");
    operator.stop()?;
    Ok(())
}

/// Agent and device plugin run on both nodes of the CXIDriver and nowhere else.
async fn both_run(harness: &Harness) -> Result<()> {
    let running = |pods: BTreeMap<String, (String, String, bool)>, image: &str| {
        pods.keys().map(String::as_str).eq(["n-01", "n-02"]) && pods.values().all(|pod| pod.1 == image && pod.2)
    };
    let both = async |h: &Harness| {
        let (agents, plugins) = (pods(h, "agent").await?, pods(h, "device-plugin").await?);
        Ok(running(agents, AGENT_IMAGE) && running(plugins, DEVICE_PLUGIN_IMAGE))
    };
    harness.wait_until("agents and device plugins run on both nodes", LONG, both).await
}

/// The CXIDriver goes last: when it is gone, so are its DaemonSets.
async fn nothing_is_left(harness: &Harness) -> Result<()> {
    let gone = async |h: &Harness| Ok(h.driver("cxi").await?.is_none());
    harness.wait_until("the CXIDriver is gone", LONG, gone).await?;
    for name in [AGENT, PLUGIN] {
        ensure!(!exists(harness, name).await?, "{name} is left behind");
    }
    let gone = async |h: &Harness| Ok(pods(h, "agent").await?.is_empty() && pods(h, "device-plugin").await?.is_empty());
    harness.wait_until("the pods are gone", LONG, gone).await
}

async fn exists(harness: &Harness, name: &str) -> Result<bool> {
    let api: Api<DaemonSet> = Api::namespaced(harness.client.clone(), NAMESPACE);
    Ok(api.get_opt(name).await?.is_some())
}

/// Pods of a role by node: UID, image, and whether it is ready.
async fn pods(harness: &Harness, role: &str) -> Result<BTreeMap<String, (String, String, bool)>> {
    let api: Api<Pod> = Api::namespaced(harness.client.clone(), NAMESPACE);
    let list = api.list(&ListParams::default().labels(&format!("cxi.hpe.com/role={role}"))).await?;
    let pods = list.items.into_iter().map(|pod| {
        let uid = pod.uid().unwrap_or_default();
        let spec = pod.spec.unwrap_or_default();
        let image = spec.containers.first().and_then(|container| container.image.clone()).unwrap_or_default();
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        (spec.node_name.unwrap_or_default(), (uid, image, ready))
    });
    Ok(pods.collect())
}
