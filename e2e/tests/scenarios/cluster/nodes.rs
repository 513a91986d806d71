//! Nodes that are taken away, or made anew under the same name, in the middle of a rollout.

use anyhow::{Context, Result, ensure};
use cxi_api::Phase;
use cxi_e2e::scenario::{NEW, Scenario};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Four nodes that move at once, slowly.
async fn rollout_of_four() -> Result<Scenario> {
    let all_at_once = IntOrString::String("100%".to_owned());
    let scenario = Scenario::installed(4, |spec| spec.update_strategy.max_unavailable = all_at_once).await?;
    for node in ["n-01", "n-02"] {
        scenario.harness.soft.slow_down(node, 5)?;
    }
    scenario.upgrade_to(NEW).await?;
    Ok(scenario)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_deleted_in_flight_hold_nobody_up() -> Result<()> {
    let mut scenario = rollout_of_four().await?;
    for (node, phase) in [("n-01", Phase::Closing), ("n-02", Phase::Loading)] {
        scenario.until_phase(node, phase).await?;
        scenario.harness.soft.remove_node(node).await?;
        scenario.nodes.retain(|name| name != node);
    }
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    let status = scenario.status().await?;
    ensure!(status.total == 2 && status.failed == 0, "{} nodes, {} failed", status.total, status.failed);
    ensure!(status.rollout.is_some_and(|rollout| rollout.in_flight.is_empty()), "a node that is gone is in flight");
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_made_anew_under_the_same_name_is_another_node() -> Result<()> {
    let scenario = rollout_of_four().await?;
    for (node, phase) in [("n-01", Phase::Closing), ("n-02", Phase::Unloading)] {
        scenario.until_phase(node, phase).await?;
        let before = uid(&scenario, node).await?;
        scenario.harness.soft.recreate_node(node).await?;
        scenario
            .until("the new node has a record of its own", || async {
                let owner = record_owner(&scenario, node).await?;
                Ok(owner.is_some_and(|owner| owner != before))
            })
            .await?;
    }
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    for node in ["n-01", "n-02"] {
        ensure!(record_owner(&scenario, node).await? == Some(uid(&scenario, node).await?), "{node} has an old record");
        let record = scenario.record(node).await?.context("no record")?;
        ensure!(record.failure.is_none() && record.transaction.is_none(), "{node} inherited something");
    }
    scenario.finish().await
}

async fn uid(scenario: &Scenario, node: &str) -> Result<String> {
    scenario.harness.node(node).await?.metadata.uid.context("a node without UID")
}

/// UID of the Node that the record of that name belongs to.
async fn record_owner(scenario: &Scenario, node: &str) -> Result<Option<String>> {
    let record = scenario.harness.cxi_node(node).await?;
    let owners = record.and_then(|record| record.metadata.owner_references).unwrap_or_default();
    Ok(owners.into_iter().find(|owner| owner.kind == "Node").map(|owner| owner.uid))
}
