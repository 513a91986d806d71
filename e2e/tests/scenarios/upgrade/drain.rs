//! Pods that hold a NIC are evicted, each once.

use anyhow::{Result, ensure};
use cxi_e2e::{
    jobs::JobShape,
    scenario::{NEW, Scenario},
};

use super::{at_once, run, starts, uids};

#[tokio::test(flavor = "multi_thread")]
async fn each_pod_is_evicted_once_and_goes_to_a_node_that_is_done() -> Result<()> {
    let s = Scenario::installed(3, at_once(1)).await?;
    s.harness.jobs.deployment("job", 2, &JobShape::default()).await?;
    run(&s, "job", 2).await?;
    let before = uids(&s, "job").await?;

    s.upgrade_to(NEW).await?;
    s.verified().await?;
    run(&s, "job", 2).await?;

    s.all_run(NEW).await?;
    let after = uids(&s, "job").await?;
    ensure!(before.iter().all(|uid| !after.contains(uid)), "both pods had to move");
    ensure!(starts(&s, "job") == 4, "each pod was replaced once, not {} times in all", starts(&s, "job") - 2);
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_without_a_nic_stay_where_they_are() -> Result<()> {
    let s = Scenario::installed(2, at_once(1)).await?;
    let without = JobShape { nics: 0, ..JobShape::on("n-01") };
    s.harness.jobs.pod("web", &without).await?;
    run(&s, "web", 1).await?;
    let before = uids(&s, "web").await?;

    s.upgrade_to(NEW).await?;
    s.verified().await?;

    ensure!(uids(&s, "web").await? == before, "the pod is the same as before");
    s.finish().await
}
