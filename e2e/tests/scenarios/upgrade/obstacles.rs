//! What forbids an eviction keeps its node in full service; the others go on.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_api::{Blocker, Reason};
use cxi_e2e::{
    jobs::JobShape,
    scenario::{NEW, OLD, Scenario},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{at_once, run, user_deletes};

/// The others are done, and all that time the held node kept every NIC and its driver.
async fn others_go_on(s: &Scenario, held: &str) -> Result<()> {
    let others = || async {
        ensure!(s.offered(held).await? == 200, "{held} lost capacity");
        ensure!(s.unloads(held) == 0, "{held} lost its driver");
        Ok(s.nodes.iter().filter(|node| *node != held).all(|node| s.driver(node).as_deref() == Some(NEW)))
    };
    s.until("the other nodes are upgraded", others).await?;
    s.stays("the node keeps its capacity", Duration::from_secs(2), others).await?;
    ensure!(s.driver(held).as_deref() == Some(OLD), "{held} still runs the old driver");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disruption_budget_holds_only_its_own_node() -> Result<()> {
    let s = Scenario::installed(3, at_once(1)).await?;
    s.harness.jobs.deployment("guarded", 1, &JobShape::on("n-01")).await?;
    run(&s, "guarded", 1).await?;
    s.harness.jobs.protect("guarded", 1).await?;

    s.upgrade_to(NEW).await?;
    let blocker = s.until_blocked("n-01", Reason::DisruptionBudget).await?;
    ensure!(is_about(&blocker, "PodDisruptionBudget", "jobs/guarded"), "{blocker:?}");
    others_go_on(&s, "n-01").await?;

    s.harness.jobs.unprotect("guarded").await?;
    s.verified().await?;
    run(&s, "guarded", 1).await?;
    s.all_run(NEW).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_pod_is_never_evicted() -> Result<()> {
    let precious = [("precious".to_owned(), "yes".to_owned())];
    let selector = LabelSelector { match_labels: Some(precious.clone().into()), ..LabelSelector::default() };
    let s = Scenario::installed(3, |spec| spec.update_strategy.drain.protected_pods = Some(selector)).await?;
    s.harness.jobs.pod("simulation", &JobShape { labels: precious.into(), ..JobShape::on("n-01") }).await?;
    run(&s, "simulation", 1).await?;

    s.upgrade_to(NEW).await?;
    let blocker = s.until_blocked("n-01", Reason::ProtectedPod).await?;
    ensure!(is_about(&blocker, "Pod", "jobs/simulation"), "{blocker:?}");
    others_go_on(&s, "n-01").await?;
    ensure!(s.harness.jobs.running_on("simulation").await? == ["n-01"], "the pod runs on");

    user_deletes(&s, "simulation").await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}

/// Whether a blocker names this object.
fn is_about(blocker: &Blocker, kind: &str, name: &str) -> bool {
    blocker.object.as_ref().is_some_and(|object| (object.kind.as_str(), object.name.as_str()) == (kind, name))
}
