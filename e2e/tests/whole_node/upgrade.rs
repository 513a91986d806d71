//! What the operator is for: a driver comes, and is swapped under a pod.

use anyhow::{Context, Result, ensure};
use cxi_e2e::{
    jobs::JobShape,
    scenario::{DRIVER, NEW, OLD},
};
use serde_json::json;

use crate::cluster::{Cluster, JOB};

/// The first driver comes to nodes that have none.
pub async fn the_first_driver_comes(cluster: &mut Cluster) -> Result<()> {
    // The exporter is the agent's program with fewer rights; its pods would take their time of the guests' processors.
    cluster.scenario.harness.create_driver(DRIVER, OLD, |spec| spec.metrics_exporter.enabled = false).await?;
    cluster.verified().await?;
    cluster.all_run(OLD).await?;
    cluster.say("both guests run the first release");
    // Only now: a pod of KMM that looks whether an image is there must have looked on a guest.
    cluster.add_soft_nodes(2).await?;
    cluster.verified().await?;
    cluster.say("and so do two soft nodes");
    Ok(())
}

/// A pod that holds a NIC, by the device plugin and CDI, is evicted and runs again on the new driver.
pub async fn a_pod_is_evicted_and_runs_again(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.guests[0].name.clone();
    cluster.scenario.harness.jobs.deployment(JOB, 1, &JobShape::on(&node)).await?;
    let before = cluster.job_runs().await?;
    let device = cluster.held_by(&before.uid).await?;
    cluster.say("a pod holds a NIC");
    let name = &before.name;
    let seen = format!("cat /var/log/pods/jobs_{name}_*/app/*.log");
    let said = cluster.on(0, |guest| guest.shell(&seen))?;
    ensure!(said.contains(&format!("holding /dev/{device}")), "the pod says {said:?} and not that it holds {device}");

    let faster = json!({ "spec": { "updateStrategy": { "maxUnavailable": 2 } } });
    cluster.scenario.harness.edit_driver(DRIVER, &faster).await?;
    cluster.scenario.upgrade_to(NEW).await?;
    cluster.verified().await?;
    let after = cluster.job_runs().await?;
    ensure!(after.uid != before.uid, "the pod was not evicted");
    cluster.held_by(&after.uid).await.context("after the upgrade")?;
    cluster.all_run(NEW).await?;
    cluster.say("all run the second release, and the pod runs again");
    Ok(())
}
