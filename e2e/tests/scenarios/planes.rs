//! The hand-over of control planes from one scenario to the next: only what is as new is handed on.

use anyhow::{Result, ensure};
use cxi_api::{CXIDriver, kmm::Module};
use cxi_e2e::{
    harness::{Harness, HarnessOptions},
    jobs::JobShape,
    scenario::{DRIVER, LONG, NEW, OLD},
    soft_node::NodeShape,
};
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    rbac::v1::ClusterRole,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_used_control_plane_is_cleaned_and_a_spoilt_one_is_not_handed_on() -> Result<()> {
    let mut harness = Harness::start(HarnessOptions::default()).await?;
    harness.soft.add_nodes("n", 2, &NodeShape::default());
    harness.soft.wait_until_ready(LONG).await?;
    let operator = harness.spawn_operator(&[])?;
    harness.create_driver(DRIVER, OLD, |_| ()).await?;
    harness.wait_verified(DRIVER, 2, LONG).await?;
    harness.jobs.deployment("job", 2, &JobShape::default()).await?;
    harness.edit_version(DRIVER, NEW).await?;
    drop(operator);
    harness.soft.stop().await;

    harness.plane.clean().await?;
    let client = &harness.client;
    let all = ListParams::default();
    ensure!(Api::<Node>::all(client.clone()).list(&all).await?.items.is_empty(), "nodes are left");
    ensure!(Api::<Pod>::all(client.clone()).list(&all).await?.items.is_empty(), "pods are left");
    ensure!(Api::<Module>::all(client.clone()).list(&all).await?.items.is_empty(), "Modules are left");
    ensure!(Api::<CXIDriver>::all(client.clone()).list(&all).await?.items.is_empty(), "the CXIDriver is left");
    ensure!(harness.plane.kmm_running(), "KMM waits for the next");

    let roles: Api<ClusterRole> = Api::all(client.clone());
    roles.delete("cxi-operator", &DeleteParams::default()).await?;
    let refusal = harness.give_back().await.map_or_else(|error| format!("{error:#}"), |()| String::new());
    ensure!(refusal.contains("ClusterRole cxi-operator is gone"), "handed on: {refusal}");
    Ok(())
}
