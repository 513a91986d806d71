//! Pods that are still there when the time for the drain is over.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_api::{
    CXIDriverSpec, GoDuration, Reason,
    strategy::{DrainPolicy, OnTimeout},
};
use cxi_e2e::{
    jobs::JobShape,
    oracle::Allowed,
    scenario::{LONG, NEW, OLD, Scenario},
};

use super::{run, starts, user_deletes, waits};

fn patience(on_timeout: OnTimeout) -> impl FnOnce(&mut CXIDriverSpec) {
    move |spec| {
        waits(DrainPolicy::WaitForCompletion, 3)(spec);
        spec.update_strategy.drain.evict_timeout = GoDuration(Duration::from_secs(3));
        spec.update_strategy.drain.on_timeout = on_timeout;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_is_given_back_and_tried_again_later() -> Result<()> {
    let s = Scenario::installed(2, patience(OnTimeout::GiveBack)).await?;
    s.harness.jobs.pod("long", &JobShape::on("n-01")).await?;
    run(&s, "long", 1).await?;

    s.upgrade_to(NEW).await?;
    s.until("the node waits with what is in use", || async { Ok(s.offered("n-01").await? == 1) }).await?;
    s.until("it is given back with all of its NICs", || async { Ok(s.offered("n-01").await? == 200) }).await?;
    s.until("it waits again", || async { Ok(s.offered("n-01").await? == 1) }).await?;
    ensure!(s.status().await?.failed == 0, "that is no failure");
    ensure!(s.driver("n-01").as_deref() == Some(OLD) && s.unloads("n-01") == 0, "the old driver stays in");

    user_deletes(&s, "long").await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_fails_and_stays_in_service() -> Result<()> {
    let s = Scenario::installed(2, patience(OnTimeout::Fail)).await?;
    s.harness.jobs.pod("long", &JobShape::on("n-01")).await?;
    run(&s, "long", 1).await?;

    s.upgrade_to(NEW).await?;
    let blocker = s.until_blocked("n-01", Reason::Failed).await?;
    ensure!(blocker.message.contains("jobs/long"), "{blocker:?}");
    s.until("the node offers all of its NICs", || async { Ok(s.offered("n-01").await? == 200) }).await?;
    ensure!(s.status().await?.failed == 1, "it counts as failed");
    ensure!(s.condition("Halted").await?.is_some_and(|(status, _)| status == "True"), "the rollout halts");
    ensure!(s.driver("n-01").as_deref() == Some(OLD) && s.unloads("n-01") == 0, "the old driver stays in");
    ensure!(s.harness.jobs.running_on("long").await? == ["n-01"], "the pod runs on");
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn force_deletes_even_what_a_disruption_budget_keeps() -> Result<()> {
    let s = Scenario::installed(2, patience(OnTimeout::Force)).await?;
    s.harness.jobs.deployment("kept", 1, &JobShape::on("n-01")).await?;
    run(&s, "kept", 1).await?;
    s.harness.jobs.protect("kept", 1).await?;
    s.allow(&Allowed::PodDeletion("jobs/kept".into()), LONG);

    s.upgrade_to(NEW).await?;
    s.verified().await?;
    run(&s, "kept", 1).await?;

    ensure!(starts(&s, "kept") == 2, "the pod was deleted once");
    s.all_run(NEW).await?;
    s.finish().await
}
