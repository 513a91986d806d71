//! The image of the old revision, without which KMM cannot unload it.

use anyhow::{Result, ensure};
use cxi_api::{Phase, Reason};
use cxi_e2e::{
    driver_model::image_reference,
    harness::{Harness, REPOSITORY},
    scenario::{NEW, OLD, Scenario},
    soft_node::KERNEL,
};

fn old_image() -> String {
    image_reference(REPOSITORY, OLD, KERNEL)
}

fn lose_old_image(scenario: &Scenario, node: &str) -> Result<()> {
    scenario.harness.soft.with_registry(|registry| registry.withdraw(&old_image()));
    scenario.harness.soft.forget_image(node, &old_image())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_old_image_is_gone_is_not_closed() -> Result<()> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    lose_old_image(&scenario, "n-01")?;
    scenario.upgrade_to(NEW).await?;
    scenario
        .until("the node says which image is missing", || async {
            let blocker = scenario.record("n-01").await?.and_then(|record| record.blocked_by);
            Ok(blocker.is_some_and(|b| b.reason == Reason::ImageMissing && b.message.contains(&old_image())))
        })
        .await?;
    scenario.until_phase("n-01", Phase::Pending).await?;
    ensure!(scenario.offered("n-01").await? > 0 && scenario.unloads("n-01") == 0, "the node was closed");

    scenario.harness.soft.with_registry(|registry| registry.restore(&old_image()));
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_image_that_goes_during_the_unload_is_named_and_the_unload_goes_on_when_it_is_back() -> Result<()> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    let label = Harness::version_label(&scenario.revision(OLD).await?);
    scenario.harness.soft.slow_down("n-01", 10)?;
    scenario.upgrade_to(NEW).await?;
    scenario
        .until("KMM is told to unload", || async {
            let labels = scenario.harness.node("n-01").await?.metadata.labels.unwrap_or_default();
            Ok(!labels.contains_key(&label))
        })
        .await?;
    lose_old_image(&scenario, "n-01")?;
    scenario.harness.soft.slow_down("n-01", 1)?;
    scenario.until_blocked("n-01", Reason::OldImageMissing).await?;
    ensure!(scenario.driver("n-01").as_deref() == Some(OLD), "the driver went without its image");

    scenario.harness.soft.with_registry(|registry| registry.restore(&old_image()));
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}
