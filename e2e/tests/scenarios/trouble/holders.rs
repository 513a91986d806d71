//! A process outside Kubernetes that holds the device is seen while the node can still be given back.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_api::{Phase, Reason};
use cxi_e2e::{
    jobs::JobShape,
    scenario::{NEW, OLD, Scenario},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_device_a_process_holds_loses_no_capacity_and_others_go_on() -> Result<()> {
    let scenario = Scenario::installed(2, |_| ()).await?;
    let capacity = scenario.offered("n-01").await?;
    scenario.harness.soft.add_process("n-01", "lnetd")?;
    scenario
        .until("the agent reports the process", || async {
            let report = scenario.harness.cxi_node("n-01").await?.and_then(|node| node.status?.node);
            Ok(report.is_some_and(|report| !report.open_files.is_empty()))
        })
        .await?;

    scenario.upgrade_to(NEW).await?;
    let blocker = scenario.until_blocked("n-01", Reason::HostHolder).await?;
    ensure!(blocker.message.contains("lnetd"), "the holder is not named: {}", blocker.message);
    scenario
        .until("the other node is moved", || async {
            Ok(scenario.phase("n-02").await? == Some(Phase::UpToDate)
                && scenario.driver("n-02").as_deref() == Some(NEW))
        })
        .await?;
    ensure!(scenario.driver("n-01").as_deref() == Some(OLD), "the node was moved under the process");
    ensure!(scenario.offered("n-01").await? == capacity, "the node lost capacity");

    scenario.harness.soft.remove_process("n-01", "lnetd")?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_opens_the_device_during_the_drain_has_the_node_given_back_without_a_reload() -> Result<()> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    // While its pod takes its time to end, the node is closed and not yet proved quiet.
    let shape = JobShape { ignores_sigterm: true, grace: 4, ..JobShape::on("n-01") };
    scenario.harness.jobs.pod("slow", &shape).await?;
    scenario.until("the pod runs", || async { Ok(scenario.harness.jobs.running_on("slow").await?.len() == 1) }).await?;
    scenario.upgrade_to(NEW).await?;
    scenario.until_phase("n-01", Phase::Evicting).await?;
    scenario.harness.soft.add_process("n-01", "lnetd")?;

    scenario
        .until("the node is given back with the holder named", || async {
            let record = scenario.record("n-01").await?;
            Ok(record.is_some_and(|record| {
                let named =
                    record.blocked_by.is_some_and(|b| b.reason == Reason::HostHolder && b.message.contains("lnetd"));
                record.phase == Phase::Pending && named
            }))
        })
        .await?;
    scenario.until("it offers its NICs again", || async { Ok(scenario.offered("n-01").await? > 0) }).await?;
    let (driver, unloads) = (scenario.driver("n-01"), scenario.unloads("n-01"));
    ensure!(driver.as_deref() == Some(OLD) && unloads == 0, "the driver was touched: {driver:?}, {unloads} unloads");
    let unchanged = || async { Ok(scenario.unloads("n-01") == 0) };
    scenario.stays("the process keeps its driver", Duration::from_secs(4), unchanged).await?;

    scenario.harness.soft.remove_process("n-01", "lnetd")?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    ensure!(scenario.unloads("n-01") == 1, "one unload was enough");
    scenario.finish().await
}
