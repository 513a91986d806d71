//! Links that stay down with the new driver.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_api::{GoDuration, Phase, Reason, names::RESUME_ANNOTATION};
use cxi_e2e::scenario::{DRIVER, NEW, OLD, Scenario};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_stays_down_fails_the_node_which_goes_back_and_halts_the_rollout() -> Result<()> {
    let quick = GoDuration(Duration::from_secs(5));
    let scenario = Scenario::installed(2, |spec| spec.update_strategy.health_check_timeout = quick).await?;
    scenario.harness.soft.hold_links_down("n-01", &[NEW])?;
    scenario.upgrade_to(NEW).await?;
    scenario.until_blocked("n-01", Reason::LinkDown).await?;
    scenario
        .until("the node is back on the old revision", || async {
            let back = scenario.phase("n-01").await? == Some(Phase::Pending);
            Ok(back && scenario.driver("n-01").as_deref() == Some(OLD) && scenario.offered("n-01").await? > 0)
        })
        .await?;
    let blocker = scenario.until_blocked("n-01", Reason::Failed).await?;
    ensure!(blocker.message.contains("link"), "the cause is not named: {}", blocker.message);
    scenario.until_blocked("n-02", Reason::Halted).await?;
    ensure!(scenario.unloads("n-02") == 0, "a halted rollout moved a node");

    scenario.harness.soft.hold_links_down("n-01", &[])?;
    let rollout = scenario.status().await?.rollout.map(|rollout| rollout.id);
    let resume = json!({ "metadata": { "annotations": { RESUME_ANNOTATION: rollout } } });
    scenario.harness.edit_driver(DRIVER, &resume).await?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}
