//! An unload that is stuck, because a process took the device after the last look: it is never forced.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_api::{Advertise, Phase, Reason};
use cxi_e2e::{
    harness::{Harness, HarnessOptions},
    scenario::{NEW, OLD, Scenario},
    soft_node::NodeShape,
    truth::Fact,
};
use serde_json::json;

/// Between the removed label and the worker a process opens the device: the unload cannot succeed.
pub async fn get_stuck(scenario: &Scenario, node: &str) -> Result<()> {
    let label = Harness::version_label(&scenario.revision(OLD).await?);
    // Slow enough for a hand to come in between.
    scenario.harness.soft.slow_down(node, 20)?;
    scenario.upgrade_to(NEW).await?;
    scenario
        .until("KMM is told to unload", || async {
            let labels = scenario.harness.node(node).await?.metadata.labels.unwrap_or_default();
            Ok(!labels.contains_key(&label))
        })
        .await?;
    scenario.harness.soft.add_process(node, "lnetd")?;
    scenario.harness.soft.slow_down(node, 1)?;
    scenario
        .until("the unload is refused", || async {
            Ok(scenario.facts(node).iter().any(|fact| matches!(fact, Fact::UnloadRefused { .. })))
        })
        .await
}

async fn is_stuck(scenario: &Scenario, node: &str) -> Result<()> {
    let blocker = scenario.until_blocked(node, Reason::UnloadStuck).await?;
    ensure!(blocker.message.contains("lnetd"), "the holder is not named: {}", blocker.message);
    let record = scenario.record(node).await?;
    ensure!(record.is_some_and(|record| record.advertise == Advertise::None), "a stuck node offers NICs");
    ensure!(scenario.driver(node).as_deref() == Some(OLD), "the driver was forced out");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_unload_names_the_holder_and_goes_on_by_itself_when_it_leaves() -> Result<()> {
    let scenario = Scenario::installed(2, |_| ()).await?;
    get_stuck(&scenario, "n-01").await?;
    is_stuck(&scenario, "n-01").await?;
    let closed = || async { Ok(scenario.offered("n-01").await? == 0 && scenario.driver("n-01").is_some()) };
    scenario.stays("the node stays closed and loaded", Duration::from_secs(3), closed).await?;

    scenario.harness.soft.remove_process("n-01", "lnetd")?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    ensure!(scenario.unloads("n-01") == 1, "one unload was enough");
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_lets_a_stuck_unload_go_on() -> Result<()> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    get_stuck(&scenario, "n-01").await?;
    is_stuck(&scenario, "n-01").await?;
    scenario.harness.soft.reboot("n-01", None)?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    ensure!(scenario.unloads("n-01") == 0, "the reboot took the driver out");
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_unload_fails_at_the_deadline_and_a_reboot_is_the_way_out() -> Result<()> {
    let options =
        HarnessOptions { operator_args: vec!["--unload-timeout=15s".to_owned()], ..HarnessOptions::default() };
    let scenario = Scenario::start_with(options, 2, &NodeShape::default()).await?;
    scenario.install(|_| ()).await?;
    get_stuck(&scenario, "n-01").await?;
    is_stuck(&scenario, "n-01").await?;

    scenario.until_phase("n-01", Phase::Quarantined).await?;
    let blocker = scenario.until_blocked("n-01", Reason::Failed).await?;
    ensure!(blocker.message.contains("lnetd"), "the holder is not named: {}", blocker.message);
    ensure!(blocker.message.contains("reboot"), "the way out is not named: {}", blocker.message);
    scenario.until_blocked("n-02", Reason::Halted).await?;
    ensure!(scenario.driver("n-01").as_deref() == Some(OLD), "the driver was forced out");
    ensure!(scenario.unloads("n-02") == 0, "a halted rollout moved a node");

    scenario.harness.soft.reboot("n-01", None)?;
    scenario.ask("n-01", Some("retry")).await?;
    scenario.until_phase("n-01", Phase::UpToDate).await?;
    let rollout = scenario.status().await?.rollout.map(|rollout| rollout.id);
    let resume = json!({ "metadata": { "annotations": { cxi_api::names::RESUME_ANNOTATION: rollout } } });
    scenario.harness.edit_driver(cxi_e2e::scenario::DRIVER, &resume).await?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}
