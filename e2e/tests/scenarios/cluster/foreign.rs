//! Cordons, taints, labels and annotations of other people.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use cxi_api::{Phase, Reason};
use cxi_e2e::{
    oracle::Allowed,
    scenario::{NEW, OLD, Scenario},
};
use futures::future::try_join_all;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::{Value, json};

/// Cordons and taints a node and leaves a label and an annotation on it, as others do.
async fn lay_hands_on(scenario: &Scenario, node: &str) -> Result<()> {
    scenario.allow(&Allowed::ForeignEdit(node.to_owned()), Duration::from_secs(3));
    let own = |node: k8s_openapi::api::core::v1::Node| node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let mut taints: Vec<Value> = Vec::new();
    for taint in own(scenario.harness.node(node).await?) {
        taints.push(serde_json::to_value(taint)?);
    }
    for (key, effect) in [("maintenance.example/now", "NoExecute"), ("rack.example/7", "NoSchedule")] {
        taints.push(json!({ "key": key, "value": "yes", "effect": effect }));
    }
    let marks = json!({ "rack.example/row": "7" });
    let patch = json!({
        "metadata": { "labels": marks, "annotations": marks },
        "spec": { "unschedulable": true, "taints": taints },
    });
    scenario.harness.patch_node(node, &patch).await
}

/// What is not ours on a node.
#[derive(Debug, PartialEq)]
struct Foreign {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    taints: Vec<Taint>,
    cordoned: bool,
}

async fn foreign(scenario: &Scenario, node: &str) -> Result<Foreign> {
    let object = scenario.harness.node(node).await?;
    let spec = object.spec.unwrap_or_default();
    let ours = |key: &String| key.contains("cxi.hpe.com") || key.contains("kmm.node.kubernetes.io");
    let others = |map: Option<BTreeMap<String, String>>| map.unwrap_or_default().into_iter();
    // When the node lifecycle controller puts its own taint for a cordon is its own affair.
    let kept = |taint: &Taint| !ours(&taint.key) && !taint.key.starts_with("node.kubernetes.io/");
    Ok(Foreign {
        labels: others(object.metadata.labels).filter(|(key, _)| !ours(key)).collect(),
        annotations: others(object.metadata.annotations).collect(),
        taints: spec.taints.unwrap_or_default().into_iter().filter(kept).collect(),
        cordoned: spec.unschedulable.unwrap_or_default(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn hands_laid_on_nodes_in_any_phase_stop_nothing_and_stay() -> Result<()> {
    let all_at_once = IntOrString::String("100%".to_owned());
    let scenario = Scenario::installed(5, |spec| spec.update_strategy.max_unavailable = all_at_once).await?;
    for node in &scenario.nodes {
        scenario.harness.soft.slow_down(node, 5)?;
    }
    scenario.upgrade_to(NEW).await?;
    let phases = [Phase::Admitted, Phase::Closing, Phase::Unloading, Phase::Loading, Phase::Verifying];
    let before = try_join_all(scenario.nodes.iter().zip(phases).map(async |(node, phase)| {
        scenario.until_phase(node, phase).await?;
        lay_hands_on(&scenario, node).await?;
        scenario.harness.soft.slow_down(node, 1)?;
        foreign(&scenario, node).await
    }))
    .await?;
    // Not `Available`: nobody can use a node that is cordoned.
    for node in &scenario.nodes {
        scenario.until_phase(node, Phase::UpToDate).await?;
    }
    scenario.all_run(NEW).await?;
    for (node, before) in scenario.nodes.iter().zip(before) {
        ensure!(before.cordoned && before.taints.len() == 2, "{node} was not marked: {before:?}");
        ensure!(foreign(&scenario, node).await? == before, "{node} has not kept {before:?}");
    }
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_others_cordoned_before_keeps_its_driver_until_they_let_it_go() -> Result<()> {
    let scenario = Scenario::installed(2, |_| ()).await?;
    lay_hands_on(&scenario, "n-01").await?;
    let before = foreign(&scenario, "n-01").await?;
    scenario.harness.edit_driver("cxi", &json!({ "spec": { "updateStrategy": { "maxUnavailable": 2 } } })).await?;
    scenario.upgrade_to(NEW).await?;
    scenario.until_phase("n-02", Phase::UpToDate).await?;
    scenario.until_blocked("n-01", Reason::Cordoned).await?;
    let untouched = || async {
        let kept = scenario.offered("n-01").await? > 0 && foreign(&scenario, "n-01").await? == before;
        Ok(kept && scenario.driver("n-01").as_deref() == Some(OLD))
    };
    scenario.stays("the node is left alone", Duration::from_secs(4), untouched).await?;

    scenario.allow(&Allowed::ForeignEdit("n-01".to_owned()), Duration::from_secs(2));
    scenario.harness.patch_node("n-01", &json!({ "spec": { "unschedulable": null } })).await?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    let after = foreign(&scenario, "n-01").await?;
    ensure!(after == Foreign { cordoned: false, ..before }, "fields of others changed: {after:?}");
    scenario.finish().await
}
