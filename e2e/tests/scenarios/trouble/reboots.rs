//! Machines that reboot in the middle of it.

use anyhow::{Result, ensure};
use cxi_api::Phase;
use cxi_e2e::scenario::{DRIVER, NEW, OLD, Scenario};
use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_in_any_phase_ends_on_the_new_driver() -> Result<()> {
    let all_at_once = IntOrString::String("100%".to_owned());
    let scenario = Scenario::installed(4, |spec| spec.update_strategy.max_unavailable = all_at_once).await?;
    for node in &scenario.nodes {
        scenario.harness.soft.slow_down(node, 5)?;
    }
    scenario.upgrade_to(NEW).await?;
    let phases = [Phase::Closing, Phase::Unloading, Phase::Loading, Phase::Verifying];
    try_join_all(scenario.nodes.iter().zip(phases).map(async |(node, phase)| {
        scenario.until_phase(node, phase).await?;
        scenario.harness.soft.reboot(node, None)?;
        scenario.harness.soft.slow_down(node, 1)
    }))
    .await?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_into_a_new_kernel_while_held_at_the_old_revision_loads_the_old_revision_for_it() -> Result<()> {
    let scenario = Scenario::installed(2, |_| ()).await?;
    scenario.harness.edit_driver(DRIVER, &json!({ "spec": { "paused": true, "version": NEW } })).await?;
    scenario.until_blocked("n-01", cxi_api::Reason::Paused).await?;

    let kernel = "6.12.120+deb12-amd64";
    scenario.harness.soft.reboot("n-01", Some(kernel))?;
    scenario
        .until("the old revision is verified on the new kernel", || async {
            let truth = scenario.harness.soft.truth("n-01");
            let there = truth.is_some_and(|truth| truth.kernel == kernel && truth.driver.is_some());
            let record = scenario.record("n-01").await?;
            let rests = record.is_some_and(|record| record.phase == Phase::Pending && record.revision.is_some());
            Ok(there && rests && scenario.offered("n-01").await? > 0)
        })
        .await?;
    ensure!(scenario.driver("n-01").as_deref() == Some(OLD), "the node was moved although paused");

    scenario.harness.edit_driver(DRIVER, &json!({ "spec": { "paused": false } })).await?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}
