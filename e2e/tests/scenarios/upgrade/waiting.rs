//! Running pods are waited for. Meanwhile the node offers only what is in use.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cxi_api::{Phase, Reason, strategy::DrainPolicy};
use cxi_e2e::{
    jobs::JobShape,
    scenario::{NEW, OLD, Scenario},
    truth::Fact,
};

use super::{run, starts, uids, user_deletes, waits};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_evicted_while_operator_and_kubelet_restart() -> Result<()> {
    let mut s = Scenario::installed(2, waits(DrainPolicy::WaitForCompletion, 600)).await?;
    s.harness.jobs.pod("train", &JobShape::on("n-01")).await?;
    run(&s, "train", 1).await?;
    let train = uids(&s, "train").await?;

    s.upgrade_to(NEW).await?;
    let blocker = s.until_blocked("n-01", Reason::PodsRunning).await?;
    ensure!(blocker.object.as_ref().is_some_and(|object| object.name == "jobs/train"), "{blocker:?}");
    ensure!(s.phase("n-01").await? == Some(Phase::Waiting), "the node waits");
    s.until("only what is in use is offered", || async { Ok(s.offered("n-01").await? == 1) }).await?;

    s.kill_operator()?;
    s.start_operator(&[])?;
    s.harness.soft.restart_kubelet("n-01")?;
    s.until("the kubelet has its device plugin again", || async { Ok(s.offered("n-01").await? == 1) }).await?;
    s.harness.jobs.pod("next", &JobShape::on("n-01")).await?;
    s.stays("the pod runs and nothing new comes", Duration::from_secs(3), || async {
        let running = s.harness.jobs.running_on("train").await?.len() == 1;
        Ok(running && s.harness.jobs.running_on("next").await?.is_empty() && s.offered("n-01").await? <= 1)
    })
    .await?;
    ensure!(uids(&s, "train").await? == train, "the pod is the same as before");
    ensure!(s.driver("n-01").as_deref() == Some(OLD), "the driver is still the old one");

    user_deletes(&s, "next").await?;
    user_deletes(&s, "train").await?;
    s.verified().await?;

    s.all_run(NEW).await?;
    ensure!(starts(&s, "train") == 1 && s.unloads("n-01") == 1, "nothing happened twice");
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_by_itself_is_not_disturbed() -> Result<()> {
    let s = Scenario::installed(2, waits(DrainPolicy::WaitForCompletion, 600)).await?;
    let short = JobShape { run_for: Some(Duration::from_secs(8)), ..JobShape::on("n-01") };
    s.harness.jobs.batch("simulation", 1, &short).await?;
    run(&s, "simulation", 1).await?;

    s.upgrade_to(NEW).await?;
    s.verified().await?;

    ensure!(starts(&s, "simulation") == 1, "the job ran once, to its end");
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_takes_too_long_is_evicted_after_the_wait() -> Result<()> {
    let wait = Duration::from_secs(4);
    let s = Scenario::installed(2, waits(DrainPolicy::WaitThenEvict, wait.as_secs())).await?;
    s.harness.jobs.deployment("job", 1, &JobShape::on("n-01")).await?;
    run(&s, "job", 1).await?;

    s.upgrade_to(NEW).await?;
    s.until_phase("n-01", Phase::Waiting).await?;
    let since = s.record("n-01").await?.context("n-01 has a record")?.since;
    s.verified().await?;
    run(&s, "job", 1).await?;

    let records = s.harness.soft.records();
    let ended = records.iter().find(|r| r.node == "n-01" && matches!(r.fact, Fact::Closed { .. }));
    let waited = ended.context("the pod was evicted")?.at.duration_since(since);
    ensure!(Duration::try_from(waited)? >= wait, "it was waited only {waited:?}");
    ensure!(starts(&s, "job") == 2, "the pod was evicted once");
    s.finish().await
}
