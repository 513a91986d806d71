//! What an administrator asks of a rollout and of single nodes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cxi_api::{Phase, Reason, strategy::UpdateType};
use cxi_e2e::scenario::{DRIVER, NEW, OLD, Scenario};
use serde_json::json;

use super::at_once;

/// How many nodes really run a release.
fn running(s: &Scenario, version: &str) -> usize {
    s.nodes.iter().filter(|node| s.driver(node).as_deref() == Some(version)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rollout_finishes_what_is_in_flight_and_begins_nothing() -> Result<()> {
    let s = Scenario::installed(3, at_once(1)).await?;

    s.upgrade_to(NEW).await?;
    let target = s.revision(NEW).await?;
    s.until("a node is in flight", || async {
        let rollout = s.status().await?.rollout;
        Ok(rollout.is_some_and(|rollout| rollout.to.as_ref() == Some(&target) && !rollout.in_flight.is_empty()))
    })
    .await?;
    s.harness.edit_driver(DRIVER, &json!({ "spec": { "paused": true } })).await?;
    s.until("nothing is in flight", || async {
        let rollout = s.status().await?.rollout.context("there is a rollout")?;
        Ok(rollout.in_flight.is_empty())
    })
    .await?;
    let done = running(&s, NEW);
    ensure!((1..3).contains(&done), "{done} nodes are done");
    let left = s.nodes.iter().filter(|node| s.driver(node).as_deref() == Some(OLD));
    for node in left {
        s.until_blocked(node, Reason::Paused).await?;
    }
    s.stays("nothing begins", Duration::from_secs(2), || async { Ok(running(&s, OLD) == 3 - done) }).await?;

    s.harness.edit_driver(DRIVER, &json!({ "spec": { "paused": false } })).await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_delete_moves_a_node_only_when_asked() -> Result<()> {
    let s = Scenario::installed(2, |spec| spec.update_strategy.kind = UpdateType::OnDelete).await?;

    s.upgrade_to(NEW).await?;
    for node in &s.nodes {
        s.until_blocked(node, Reason::OnDelete).await?;
    }
    s.ask("n-02", Some("now")).await?;
    s.until("n-02 is upgraded", || async {
        Ok(s.driver("n-02").as_deref() == Some(NEW) && s.phase("n-02").await? == Some(Phase::UpToDate))
    })
    .await?;
    s.stays("the other stays", Duration::from_secs(2), || async { Ok(s.driver("n-01").as_deref() == Some(OLD)) })
        .await?;

    s.ask("n-01", Some("now")).await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_to_be_skipped_waits_until_the_label_is_gone() -> Result<()> {
    let s = Scenario::installed(2, |_| ()).await?;
    s.ask("n-01", Some("skip")).await?;

    s.upgrade_to(NEW).await?;
    s.until_blocked("n-01", Reason::Skip).await?;
    s.until("the other is upgraded", || async { Ok(s.phase("n-02").await? == Some(Phase::UpToDate)) }).await?;
    s.stays("n-01 stays", Duration::from_secs(2), || async { Ok(s.driver("n-01").as_deref() == Some(OLD)) }).await?;

    s.ask("n-01", None).await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_goes_back_while_it_is_asked_to() -> Result<()> {
    let s = Scenario::installed(2, |_| ()).await?;
    s.upgrade_to(NEW).await?;
    s.verified().await?;

    s.ask("n-01", Some("rollback")).await?;
    s.until("n-01 is back on the old driver, in service", || async {
        let resting = matches!(s.phase("n-01").await?, Some(Phase::UpToDate | Phase::Pending));
        Ok(resting && s.driver("n-01").as_deref() == Some(OLD) && s.offered("n-01").await? == 200)
    })
    .await?;
    s.stays("the other stays", Duration::from_secs(2), || async { Ok(s.driver("n-02").as_deref() == Some(NEW)) })
        .await?;

    s.ask("n-01", None).await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}
