//! An API server that is away for a moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_api::Phase;
use cxi_e2e::{
    harness::HarnessOptions,
    jobs::JobShape,
    scenario::{NEW, Scenario},
    soft_node::NodeShape,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_restarts_in_the_middle_delays_the_rollout_and_spoils_nothing() -> Result<()> {
    // The Lease outlives the restart; what becomes of an operator without it is another scenario. KMM waits longer with each
    // request that fails, so that it needs a while afterwards.
    let operator_args = [
        "--lease-duration=90s",
        "--renew-deadline=80s",
        "--prefetch-timeout=3m",
        "--unload-timeout=3m",
        "--load-timeout=3m",
        "--give-back-timeout=3m",
    ];
    let operator_args = operator_args.map(str::to_owned).to_vec();
    let options = HarnessOptions { operator_args, ..HarnessOptions::default() };
    let scenario = Scenario::start_with(options, 3, &NodeShape::default()).await?;
    scenario.install(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(2)).await?;
    scenario.harness.jobs.deployment("job", 2, &JobShape::default()).await?;
    scenario.until("the jobs run", || async { Ok(scenario.harness.jobs.running_on("job").await?.len() == 2) }).await?;
    scenario.upgrade_to(NEW).await?;
    scenario
        .until("a node is being reloaded", || async {
            for node in &scenario.nodes {
                if matches!(scenario.phase(node).await?, Some(Phase::Unloading | Phase::Loading)) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await?;
    scenario.restart_api_server(Duration::from_secs(2))?;

    scenario.verified().await?;
    scenario.operator_caught_up();
    scenario.all_run(NEW).await?;
    for node in &scenario.nodes {
        ensure!(scenario.unloads(node) == 1, "{node} was unloaded {} times", scenario.unloads(node));
    }
    scenario.finish().await
}
