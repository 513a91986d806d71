//! KMM that is not there, or dies.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cxi_api::Phase;
use cxi_e2e::{
    harness::HarnessOptions,
    jobs::JobShape,
    planes::Contents,
    scenario::{DRIVER, NEW, OLD, Scenario},
    soft_node::NodeShape,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::task::block_in_place;

#[tokio::test(flavor = "multi_thread")]
async fn without_kmm_the_driver_is_blocked_and_goes_on_when_kmm_arrives() -> Result<()> {
    let options = HarnessOptions { contents: Contents::WithoutKmm, ..HarnessOptions::default() };
    let mut scenario = Scenario::start_with(options, 2, &NodeShape::default()).await?;
    scenario.harness.create_driver(DRIVER, OLD, |_| ()).await?;
    scenario
        .until("the driver says what is missing", || async {
            let conditions = scenario.status().await?.conditions;
            let blocked = conditions.into_iter().find(|condition| condition.type_ == "Blocked");
            Ok(blocked
                .is_some_and(|c| c.status == "True" && c.reason == "KMMUnavailable" && c.message.contains("install")))
        })
        .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let operator = scenario.operator().context("no operator")?;
    ensure!(operator.ended()?.is_none(), "the operator ended: {}", operator.log_tail());

    block_in_place(|| {
        scenario.harness.plane.install_kmm()?;
        scenario.harness.plane.start_kmm()
    })?;
    scenario.verified().await?;
    scenario.all_run(OLD).await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kmm_that_is_dead_for_a_while_delays_the_rollout_and_spoils_nothing() -> Result<()> {
    // It is dead for longer than the harness gives a load.
    let operator_args = ["--unload-timeout=3m", "--load-timeout=3m"].map(str::to_owned).to_vec();
    let options = HarnessOptions { operator_args, ..HarnessOptions::default() };
    let scenario = Scenario::start_with(options, 4, &NodeShape::default()).await?;
    scenario.install(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(2)).await?;
    scenario.harness.jobs.deployment("job", 2, &JobShape::default()).await?;
    scenario.until("the jobs run", || async { Ok(scenario.harness.jobs.running_on("job").await?.len() == 2) }).await?;
    scenario.upgrade_to(NEW).await?;
    scenario
        .until("KMM has work to do", || async {
            for node in &scenario.nodes {
                if matches!(scenario.phase(node).await?, Some(Phase::Unloading | Phase::Loading)) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await?;
    block_in_place(|| scenario.harness.plane.stop_kmm());
    let none_failed = || async { Ok(scenario.status().await?.failed == 0) };
    scenario.stays("no node fails", Duration::from_secs(20), none_failed).await?;
    block_in_place(|| scenario.harness.plane.start_kmm())?;

    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    for node in &scenario.nodes {
        ensure!(scenario.unloads(node) == 1, "{node} was unloaded {} times", scenario.unloads(node));
    }
    scenario.finish().await
}
