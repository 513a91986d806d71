//! Pods that do not want to go, and controllers that bring them back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cxi_e2e::{
    jobs::JobShape,
    scenario::{NEW, Scenario},
    truth::Fact,
};

use super::{run, starts};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_ignores_sigterm_gets_its_whole_grace_period() -> Result<()> {
    let s = Scenario::installed(2, |_| ()).await?;
    let deaf = JobShape { ignores_sigterm: true, grace: 5, ..JobShape::on("n-01") };
    s.harness.jobs.pod("deaf", &deaf).await?;
    run(&s, "deaf", 1).await?;

    s.upgrade_to(NEW).await?;
    s.verified().await?;

    let facts = s.facts("n-01");
    let ended = facts.iter().position(|fact| matches!(fact, Fact::Closed { .. })).context("the pod ended")?;
    let unloaded = facts.iter().position(|fact| matches!(fact, Fact::Unloaded { .. })).context("it was unloaded")?;
    ensure!(ended < unloaded, "the driver went when the pod had ended");
    ensure!(starts(&s, "deaf") == 1, "nobody started it again");
    s.all_run(NEW).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_recreated_at_once_waits_for_the_new_driver() -> Result<()> {
    let s = Scenario::installed(2, |_| ()).await?;
    s.harness.jobs.deployment("eager", 3, &JobShape::on("n-01")).await?;
    run(&s, "eager", 3).await?;

    s.upgrade_to(NEW).await?;
    s.verified().await?;
    run(&s, "eager", 3).await?;

    s.all_run(NEW).await?;
    ensure!(starts(&s, "eager") == 6, "each pod was replaced once");
    let facts = s.facts("n-01");
    let loaded = facts.iter().rposition(|fact| matches!(fact, Fact::Loaded { .. })).context("it was loaded")?;
    let first = facts.iter().rposition(|fact| matches!(fact, Fact::Closed { .. })).context("the pods ended")?;
    let second =
        facts[first..].iter().position(|fact| matches!(fact, Fact::Opened { .. })).context("they came back")?;
    ensure!(first < loaded && loaded < first + second, "they came back on the new driver");
    s.stays("the pods are left alone", Duration::from_secs(2), || async { Ok(starts(&s, "eager") == 6) }).await?;
    s.finish().await
}
