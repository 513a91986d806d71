//! The new driver does not load.

use anyhow::{Context, Result, ensure};
use cxi_api::{Reason, names::RESUME_ANNOTATION};
use cxi_e2e::{
    scenario::{DRIVER, NEW, OLD, Scenario},
    soft_node::LoadFailure,
    truth::Fact,
};
use serde_json::json;

use super::at_once;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_node_is_rolled_back_and_the_rollout_halts_until_it_is_resumed() -> Result<()> {
    let s = Scenario::installed(3, at_once(1)).await?;
    for node in &s.nodes {
        s.harness.soft.fail_load(node, &LoadFailure { version: Some(NEW.into()), leaves: 2 })?;
    }

    s.upgrade_to(NEW).await?;
    s.until("the rollout halts", || async {
        Ok(s.condition("Halted").await?.is_some_and(|(status, _)| status == "True"))
    })
    .await?;
    let rollout = s.status().await?.rollout.context("there is a rollout")?;
    ensure!(rollout.failed.len() == 1, "one node failed: {:?}", rollout.failed);
    let failed = &rollout.failed[0].node;
    s.until_blocked(failed, Reason::Failed).await?;
    rolled_back(&s.facts(failed))?;
    for node in s.nodes.iter().filter(|node| *node != failed) {
        s.until_blocked(node, Reason::Halted).await?;
        ensure!(s.unloads(node) == 0, "{node} was touched");
    }
    s.all_run(OLD).await?;

    for node in &s.nodes {
        s.harness.soft.mend_load(node)?;
    }
    let resume = json!({ "metadata": { "annotations": { RESUME_ANNOTATION: rollout.id } } });
    s.harness.edit_driver(DRIVER, &resume).await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}

/// What the failed load left was taken out by the clean-up pod, then the old driver came back.
fn rolled_back(facts: &[Fact]) -> Result<()> {
    let place = |what: &str, is: &dyn Fn(&Fact) -> bool| {
        facts.iter().rposition(is).with_context(|| format!("{what} did not happen: {facts:?}"))
    };
    let failed = place("the failure", &|fact| matches!(fact, Fact::LoadFailed { .. }))?;
    let cleaned = place("the clean-up", &|fact| matches!(fact, Fact::CleanedUp { modules } if modules.len() == 2))?;
    let loaded = place("the load", &|fact| matches!(fact, Fact::Loaded { version, .. } if version == OLD))?;
    ensure!(failed < cleaned && cleaned < loaded, "in another order: {facts:?}");
    Ok(())
}
