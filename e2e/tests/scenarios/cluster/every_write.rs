//! An operator that dies at one write of an upgrade after the other, before the write reaches the API server or before its
//! answer comes back. Each time the next operator ends in the state of a calm run, and every driver is moved once.

use std::{env, time::Duration};

use anyhow::{Context, Result, ensure};
use cxi_api::{CXINode, names::OPERATOR};
use cxi_e2e::{
    operator::DIED,
    scenario::{DRIVER, LONG, NEW, OLD, Scenario},
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::util::intstr::IntOrString};
use kube::{Api, ResourceExt, api::ListParams};
use rstest::rstest;
use serde_json::{Value, json};

/// Which part of the writes is tried: every n-th. 1 is all of them and takes half an hour.
const STRIDE_ENV: &str = "CXI_E2E_EVERY_NTH_WRITE";

/// Few enough for every run of the tests.
const STRIDE: usize = 13;

/// An upgrade of three nodes has more writes than this, or the test has missed it.
const AT_LEAST: usize = 40;

/// Waiting for a Lease would take longer than the upgrade.
const ALONE: &str = "--no-leader-election";

#[rstest]
#[case::lost_on_the_way_out("drop")]
#[case::lost_on_the_way_back("lose")]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_dies_at_any_write_ends_as_if_nothing_had_happened(#[case] how: &str) -> Result<()> {
    let stride = env::var(STRIDE_ENV).map_or(Ok(STRIDE), |text| text.parse()).context(STRIDE_ENV)?;
    let mut scenario =
        Scenario::installed(3, |spec| spec.update_strategy.max_unavailable = IntOrString::Int(3)).await?;
    scenario.kill_operator()?;
    scenario.start_operator(&[ALONE])?;
    let mut calm = Vec::new();
    for version in [NEW, OLD] {
        move_to(&scenario, version).await?;
        calm.push((version, settled_state(&scenario).await?));
    }

    let mut write = if stride == 1 { 1 } else { 1 + usize::from(how == "lose") * stride / 2 };
    let mut deaths = 0;
    loop {
        let (version, end) = &calm[deaths % 2];
        let before: Vec<usize> = scenario.nodes.iter().map(|node| scenario.unloads(node)).collect();
        scenario.kill_operator()?;
        scenario.start_faulty_operator(&format!("{write}:{how}"), &[ALONE])?;
        scenario.upgrade_to(version).await?;
        let died = dies(&mut scenario).await?;
        scenario.kill_operator()?;
        scenario.start_operator(&[ALONE])?;
        move_to(&scenario, version).await.with_context(|| format!("after a death at write {write} ({how})"))?;
        for (node, before) in scenario.nodes.iter().zip(before) {
            let unloads = scenario.unloads(node) - before;
            ensure!(unloads == 1, "write {write} ({how}): {node} was unloaded {unloads} times");
        }
        let same = async |_: &_| Ok(state(&scenario).await? == *end);
        let what = format!("everything is as in a calm run after a death at write {write} ({how})");
        if let Err(error) = scenario.harness.wait_until(&what, Duration::from_secs(30), same).await {
            let found = serde_json::to_string_pretty(&state(&scenario).await?)?;
            return Err(error.context(format!("expected {}\nfound {found}", serde_json::to_string_pretty(end)?)));
        }
        if !died {
            break;
        }
        deaths += 1;
        write += stride;
    }
    eprintln!("{deaths} deaths, the last at write {} ({how})", write - stride);
    ensure!(write > AT_LEAST, "the upgrade was over after {write} writes");
    scenario.finish().await
}

async fn move_to(scenario: &Scenario, version: &str) -> Result<()> {
    scenario.upgrade_to(version).await?;
    scenario.verified().await?;
    scenario.all_run(version).await
}

/// Whether the operator dies before the upgrade is over.
async fn dies(scenario: &mut Scenario) -> Result<bool> {
    let end = tokio::time::Instant::now() + LONG;
    loop {
        let operator = scenario.operator().context("an operator runs")?;
        if let Some(status) = operator.ended()? {
            ensure!(status.code() == Some(DIED), "the operator ended with {status}");
            return Ok(true);
        }
        let status = scenario.status().await?;
        let target = status.target_revision.clone();
        let spec = scenario.harness.driver(DRIVER).await?.context("the CXIDriver is gone")?.spec;
        let wanted = scenario.revision(&spec.version).await?;
        if target.as_ref() == Some(&wanted) && status.current_revision == target && status.updated == 3 {
            return Ok(false);
        }
        ensure!(tokio::time::Instant::now() < end, "the upgrade neither ends nor does the operator");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The state once it does not change any more.
async fn settled_state(scenario: &Scenario) -> Result<Value> {
    let mut last = state(scenario).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = state(scenario).await?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

/// Everything of ours in the cluster, less times, counts of tries, and names that chance gives.
async fn state(scenario: &Scenario) -> Result<Value> {
    let mut nodes = Vec::new();
    for name in &scenario.nodes {
        let node = scenario.harness.node(name).await?;
        let taints = node.spec.and_then(|spec| spec.taints);
        nodes.push(json!({ "labels": node.metadata.labels, "taints": taints }));
    }
    let records = scenario.harness.cxi_nodes().await?;
    let records: Result<Vec<Value>> = records.iter().map(record).collect();
    let client = &scenario.harness.client;
    let pods: Api<Pod> = Api::namespaced(client.clone(), cxi_control_plane::NAMESPACE);
    let of_daemonset = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet");
    let pods = pods.list(&ListParams::default()).await?;
    let one_shot: Vec<String> =
        pods.iter().filter(|pod| !of_daemonset(pod) && pod.name_any() != OPERATOR).map(ResourceExt::name_any).collect();
    let status = scenario.status().await?;
    let driver = json!({
        "version": status.version, "current": status.current_revision, "target": status.target_revision,
        "counts": [status.total, status.updated, status.ready, status.updating, status.failed, status.blocked],
        "inFlight": status.rollout.map(|rollout| (rollout.in_flight, rollout.failed, rollout.halted.is_some())),
        "conditions": status.conditions.iter().map(|c| [&c.type_, &c.status]).collect::<Vec<_>>(),
    });
    Ok(json!({ "nodes": nodes, "records": records?, "oneShotPods": one_shot, "driver": driver }))
}

fn record(node: &CXINode) -> Result<Value> {
    let rollout = node.status.as_ref().and_then(|status| status.rollout.as_ref());
    let mut value = serde_json::to_value(rollout)?;
    if let Some(fields) = value.as_object_mut() {
        for chance in ["since", "evidenceSince", "attempt", "history", "snapshot"] {
            fields.remove(chance);
        }
    }
    Ok(value)
}
