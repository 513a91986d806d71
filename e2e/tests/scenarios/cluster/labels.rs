//! Labels of ours that an administrator edits by hand.

use std::time::Duration;

use anyhow::Result;
use cxi_api::names::{DRIVER_LABEL, DRIVER_VERSION_LABEL, device_plugin_gate};
use cxi_e2e::{
    harness::Harness,
    oracle::Allowed,
    scenario::{DRIVER, NEW, OLD, Scenario},
};
use serde_json::{Value, json};

/// Edits labels of a node by hand, and waits until the node is as it should be again.
async fn edit(scenario: &Scenario, node: &str, labels: &Value, version: &str) -> Result<()> {
    scenario.allow(&Allowed::OurLabels(node.to_owned()), Duration::from_mins(1));
    let before = scenario.harness.node(node).await?.metadata.labels;
    scenario.harness.patch_node(node, &json!({ "metadata": { "labels": labels } })).await?;
    // The labels of KMM that say what it does come and go in their own time.
    scenario
        .until(&format!("after {labels} the labels are as before"), || async {
            Ok(scenario.harness.node(node).await?.metadata.labels == before)
        })
        .await?;
    scenario.verified().await?;
    scenario.all_run(version).await
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_only_speak_of_the_driver_are_put_right_without_moving_the_node() -> Result<()> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    let gate = device_plugin_gate(DRIVER);
    for labels in [
        json!({ &gate: null }),
        json!({ &gate: "0badc0de" }),
        json!({ DRIVER_VERSION_LABEL: null }),
        json!({ DRIVER_VERSION_LABEL: "99" }),
    ] {
        edit(&scenario, "n-01", &labels, OLD).await?;
    }
    anyhow::ensure!(scenario.unloads("n-01") == 0, "the driver was reloaded");
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_which_somebody_changed_what_kmm_loads_is_put_right_in_order() -> Result<()> {
    let scenario = Scenario::installed(2, |_| ()).await?;
    let old = Harness::version_label(&scenario.revision(OLD).await?);
    let value = scenario.revision(OLD).await?;
    scenario.upgrade_to(NEW).await?;
    scenario.verified().await?;
    let new = Harness::version_label(&scenario.revision(NEW).await?);
    for labels in [
        // KMM unloads.
        json!({ &new: null }),
        // KMM unloads the one and loads the other.
        json!({ &new: null, &old: &value }),
        // KMM loads the other beside the one.
        json!({ &old: &value }),
        // KMM's Modules do not select the node any more.
        json!({ DRIVER_LABEL: null }),
    ] {
        edit(&scenario, "n-01", &labels, NEW).await?;
    }
    scenario.finish().await
}
