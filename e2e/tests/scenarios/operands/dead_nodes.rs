//! Operands are replaced on nodes that live, whatever becomes of those that do not.

use anyhow::{Result, ensure};
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    harness::{Harness, HarnessOptions},
    scenario::LONG,
    soft_node::NodeShape,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use serde_json::json;

use super::{EXPORTER, condition, with_retry_handler};

/// With six nodes a tenth is one, and the dead one has that.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_down_keeps_no_operand_of_the_others_from_being_replaced() -> Result<()> {
    let mut harness = Harness::start(HarnessOptions::default()).await?;
    harness.soft.add_nodes("n", 6, &NodeShape::default());
    harness.soft.wait_until_ready(LONG).await?;
    let operator = harness.spawn_operator(&[])?;
    harness.create_driver("cxi", "13.0.0", with_retry_handler).await?;
    harness.wait_verified("cxi", 6, LONG).await?;
    let updated = |ready: &str, reason: &str| Some((ready.to_owned(), reason.to_owned()));
    let told = async |h: &Harness| Ok(condition(h, "OperandsUpdated").await? == updated("True", "AllUpdated"));
    harness.wait_until("all nodes run the present operands", LONG, told).await?;

    harness.soft.lose("n-06")?;
    let dead = async |h: &Harness| {
        let status = h.node("n-06").await?.status.unwrap_or_default();
        let ready = status.conditions.unwrap_or_default().into_iter().find(|one| one.type_ == "Ready");
        Ok(ready.is_some_and(|ready| ready.status != "True"))
    };
    harness.wait_until("a node is dead", LONG, dead).await?;
    harness.edit_driver("cxi", &json!({ "spec": { "metricsExporter": { "port": 9191 } } })).await?;
    let replaced = async |h: &Harness| Ok(replaced(h).await? == 5);
    harness.wait_until("all others have the new exporter", LONG, replaced).await?;
    let told = async |h: &Harness| Ok(condition(h, "OperandsUpdated").await? == updated("False", "RollingOut"));
    harness.wait_until("a condition says that one has not", LONG, told).await?;
    let status = harness.driver("cxi").await?.and_then(|driver| driver.status).unwrap_or_default();
    let message = status.conditions.iter().find(|one| one.type_ == "OperandsUpdated").map(|one| one.message.clone());
    ensure!(message.as_ref().is_some_and(|message| message.contains("n-06")), "{message:?}");

    harness.soft.recover("n-06")?;
    let told = async |h: &Harness| Ok(condition(h, "OperandsUpdated").await? == updated("True", "AllUpdated"));
    harness.wait_until("the node follows when it is back", LONG, told).await?;
    operator.stop()?;
    harness.give_back().await
}

/// On how many nodes the exporter's present template runs.
async fn replaced(harness: &Harness) -> Result<i32> {
    let daemonsets: Api<DaemonSet> = Api::namespaced(harness.client.clone(), NAMESPACE);
    let found = daemonsets.get(EXPORTER).await?;
    let status = found.status.unwrap_or_default();
    let seen = status.observed_generation >= found.metadata.generation;
    Ok(if seen { status.updated_number_scheduled.unwrap_or_default() } else { 0 })
}
