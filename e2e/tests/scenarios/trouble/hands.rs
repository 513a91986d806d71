//! Labels by which KMM loads, set by hand while the old driver is stuck in the kernel.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Result, ensure};
use cxi_api::{Phase, Reason, kmm::WORKER_ACTION_LABEL, names::DRIVER_LABEL};
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    harness::Harness,
    jobs::{self, JobShape},
    oracle::Allowed,
    scenario::{DRIVER, LONG, NEW, OLD, Scenario},
    truth::Fact,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::util::intstr::IntOrString};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use super::stuck::get_stuck;

/// Sets KMM's label of a release by hand.
async fn set_label(scenario: &Scenario, node: &str, version: &str) -> Result<()> {
    scenario.allow(&Allowed::OurLabels(node.to_owned()), Duration::from_secs(90));
    let revision = scenario.revision(version).await?;
    let labels = json!({ Harness::version_label(&revision): revision });
    scenario.harness.patch_node(node, &json!({ "metadata": { "labels": labels } })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_label_set_by_hand_too_early_is_taken_back_and_the_node_ends_with_the_driver_that_it_says() -> Result<()>
{
    let mut scenario = Scenario::installed(1, |_| ()).await?;
    get_stuck(&scenario, "n-01").await?;
    // An operator that runs takes the label back before KMM gets far.
    scenario.kill_operator()?;
    set_label(&scenario, "n-01", NEW).await?;
    scenario
        .until("KMM takes the old driver for the new one", || async {
            Ok(scenario.facts("n-01").iter().any(|fact| matches!(fact, Fact::LoadedAlready { .. })))
        })
        .await?;
    ensure!(scenario.driver("n-01").as_deref() == Some(OLD), "the old driver is in the kernel");
    scenario.start_operator(&[])?;
    let closed = || async { Ok(scenario.offered("n-01").await? == 0) };
    scenario.stays("nothing is offered", Duration::from_secs(6), closed).await?;
    let blocker = scenario.until_blocked("n-01", Reason::UnloadStuck).await?;
    ensure!(blocker.message.contains("lnetd"), "the holder is not named: {}", blocker.message);

    scenario.harness.soft.remove_process("n-01", "lnetd")?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_label_set_again_by_hand_does_not_leave_the_node_without_a_driver() -> Result<()> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    get_stuck(&scenario, "n-01").await?;
    set_label(&scenario, "n-01", OLD).await?;
    let closed = || async { Ok(scenario.offered("n-01").await? == 0) };
    scenario.stays("nothing is offered", Duration::from_secs(3), closed).await?;

    scenario.harness.soft.remove_process("n-01", "lnetd")?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_swapped_by_hand_under_a_process_close_the_node_until_it_runs_what_it_says() -> Result<()> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    scenario.upgrade_to(NEW).await?;
    scenario.verified().await?;
    scenario.harness.soft.add_process("n-01", "lnetd")?;
    scenario.allow(&Allowed::OurLabels("n-01".to_owned()), Duration::from_secs(90));
    let (old, new) = (scenario.revision(OLD).await?, scenario.revision(NEW).await?);
    let labels = json!({ Harness::version_label(&new): null, Harness::version_label(&old): old });
    scenario.harness.patch_node("n-01", &json!({ "metadata": { "labels": labels } })).await?;
    let closed = || async { Ok(scenario.offered("n-01").await? == 0) };
    scenario.until("the node is closed", closed).await?;
    scenario.stays("it stays closed", Duration::from_secs(8), closed).await?;
    ensure!(scenario.driver("n-01").as_deref() == Some(NEW), "the driver was forced out");

    scenario.harness.soft.remove_process("n-01", "lnetd")?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}

/// KMM begins to unload when its label is gone, and waits until no process has the device open. What it does when the label is back is
/// its affair: no job may lose its driver, and no unload may be left that takes it later.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_was_gone_while_no_operator_ran_takes_no_driver_from_a_job() -> Result<()> {
    let mut scenario = Scenario::installed(1, |_| ()).await?;
    scenario.harness.jobs.pod("job", &JobShape::on("n-01")).await?;
    let jobs = &scenario.harness.jobs;
    scenario.until("the job runs", || async { Ok(jobs.running_on("job").await?.len() == 1) }).await?;
    scenario.kill_operator()?;
    scenario.allow(&Allowed::OurLabels("n-01".to_owned()), Duration::from_secs(90));
    let revision = scenario.revision(OLD).await?;
    let label = Harness::version_label(&revision);
    scenario.harness.patch_node("n-01", &json!({ "metadata": { "labels": { label.clone(): null } } })).await?;
    let pods: Api<Pod> = Api::namespaced(scenario.harness.client.clone(), NAMESPACE);
    let unloads = ListParams::default().labels(&format!("{WORKER_ACTION_LABEL}=Unload"));
    scenario.until("KMM begins to unload", || async { Ok(!pods.list(&unloads).await?.items.is_empty()) }).await?;
    scenario.harness.patch_node("n-01", &json!({ "metadata": { "labels": { label: revision } } })).await?;
    scenario.start_operator(&[])?;
    let runs = || async {
        let running = scenario.harness.jobs.running_on("job").await?.len() == 1;
        Ok(running && scenario.driver("n-01").as_deref() == Some(OLD))
    };
    scenario.stays("the job goes on with its driver", Duration::from_secs(6), runs).await?;

    // The job ends by itself.
    scenario.allow(&Allowed::PodDeletion("jobs/job".to_owned()), LONG);
    let jobs: Api<Pod> = Api::namespaced(scenario.harness.client.clone(), jobs::NAMESPACE);
    jobs.delete("job", &DeleteParams::default()).await?;
    let back = || async {
        let idle = pods.list(&unloads).await?.items.is_empty();
        Ok(idle && scenario.driver("n-01").as_deref() == Some(OLD) && scenario.offered("n-01").await? > 0)
    };
    scenario.until("the node is back in service, and no unload is left", back).await?;
    scenario.verified().await?;
    scenario.all_run(OLD).await?;
    scenario.finish().await
}

/// The label by which KMM's Modules select nodes is gone everywhere at once.
#[tokio::test(flavor = "multi_thread")]
async fn owner_labels_that_were_gone_while_no_operator_ran_are_put_right_one_node_at_a_time() -> Result<()> {
    let mut scenario = Scenario::installed(3, |spec| {
        spec.update_strategy.max_unavailable = IntOrString::Int(1);
    })
    .await?;
    for node in &scenario.nodes {
        scenario.harness.jobs.pod(node, &JobShape::on(node)).await?;
        let runs = || async { Ok(scenario.harness.jobs.running_on(node).await?.len() == 1) };
        scenario.until("the job runs", runs).await?;
    }
    scenario.kill_operator()?;
    for node in &scenario.nodes {
        scenario.allow(&Allowed::OurLabels(node.clone()), LONG);
        scenario.harness.patch_node(node, &json!({ "metadata": { "labels": { DRIVER_LABEL: null } } })).await?;
    }
    let pods: Api<Pod> = Api::namespaced(scenario.harness.client.clone(), NAMESPACE);
    let unloads = ListParams::default().labels(&format!("{WORKER_ACTION_LABEL}=Unload"));
    let unloaders = async || Ok::<_, anyhow::Error>(pods.list(&unloads).await?.items.len());
    scenario.until("KMM begins to unload every node", || async { Ok(unloaders().await? == 3) }).await?;
    for node in &scenario.nodes {
        scenario.harness.patch_node(node, &json!({ "metadata": { "labels": { DRIVER_LABEL: DRIVER } } })).await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    eprintln!("the labels are back, and {} unloaders of KMM's are left", unloaders().await?);

    scenario.start_operator(&["--no-leader-election"])?;
    let flying = AtomicUsize::new(0);
    scenario
        .until("every node is in service, and no unload is left", || async {
            let rollout = scenario.status().await?.rollout;
            flying.fetch_max(rollout.map_or(0, |rollout| rollout.in_flight.len()), Ordering::Relaxed);
            let mut done = unloaders().await? == 0;
            for node in &scenario.nodes {
                done &= scenario.phase(node).await? == Some(Phase::UpToDate) && scenario.offered(node).await? > 0;
            }
            Ok(done)
        })
        .await?;
    let flying = flying.load(Ordering::Relaxed);
    ensure!(flying <= 1, "{flying} nodes were moved at once");
    scenario.verified().await?;
    scenario.all_run(OLD).await?;
    scenario.finish().await
}
