//! What the operator is for: a driver comes, and is swapped under a pod.

use anyhow::{Context, Result, ensure};
use cxi_api::CXIDriverSpec;
use cxi_e2e::{
    jobs::JobShape,
    scenario::{DRIVER, NEW, OLD},
};
use serde_json::json;

use crate::cluster::{Cluster, JOB, JobPod};

/// Where the host has the libraries of each driver release.
const LIBRARIES: &str = "/opt/slingshot/{version}/lib64";

/// Libraries of both releases, side by side: some library of the machine's, with the release behind its end.
fn install_libraries(cluster: &mut Cluster) -> Result<()> {
    for release in [OLD, NEW] {
        let directory = LIBRARIES.replace("{version}", release);
        let script = format!(
            "mkdir -p {directory} && for name in libfabric.so.1 libcxi.so.1; do \
             cp $(find /lib/ -name libc.so.6) {directory}/$name && printf '\\n{release}\\n' >> {directory}/$name || exit 1; done"
        );
        for number in 0..cluster.guests.len() {
            cluster.on(number, |guest| guest.shell(&script))?;
        }
    }
    Ok(())
}

/// What the job's pod has printed.
fn says(cluster: &mut Cluster, pod: &JobPod) -> Result<String> {
    let seen = format!("cat /var/log/pods/jobs_{}_*/app/*.log", pod.name);
    cluster.on(0, |guest| guest.shell(&seen))
}

/// The first driver comes to nodes that have none.
pub async fn the_first_driver_comes(cluster: &mut Cluster) -> Result<()> {
    install_libraries(cluster)?;
    let shape = |spec: &mut CXIDriverSpec| {
        // The exporter is the agent's program with fewer rights; its pods would take their time of the guests' processors.
        spec.metrics_exporter.enabled = false;
        spec.device_plugin.libraries.ofi_root = vec![LIBRARIES.to_owned()];
        spec.device_plugin.libraries.cxi_root = vec![LIBRARIES.to_owned()];
    };
    cluster.scenario.harness.create_driver(DRIVER, OLD, shape).await?;
    cluster.verified().await?;
    cluster.all_run(OLD).await?;
    cluster.say("both guests run the first release");
    // Only now: a pod of KMM that looks whether an image is there must have looked on a guest.
    cluster.add_soft_nodes(2).await?;
    cluster.verified().await?;
    cluster.say("and so do two soft nodes");
    Ok(())
}

/// A pod that holds a NIC, by the device plugin and CDI, with the libraries of its driver, is evicted and runs again on the new
/// driver, with those of that one.
pub async fn a_pod_is_evicted_and_runs_again(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.guests[0].name.clone();
    cluster.scenario.harness.jobs.deployment(JOB, 1, &JobShape::on(&node)).await?;
    let before = cluster.job_runs().await?;
    let device = cluster.held_by(&before.uid).await?;
    cluster.say("a pod holds a NIC");
    let said = says(cluster, &before)?;
    ensure!(said.contains(&format!("holding /dev/{device}")), "the pod says {said:?} and not that it holds {device}");
    ensure!(said.contains(&format!("libcxi is of {OLD}")), "the pod says {said:?}");

    let faster = json!({ "spec": { "updateStrategy": { "maxUnavailable": 2 } } });
    cluster.scenario.harness.edit_driver(DRIVER, &faster).await?;
    cluster.scenario.upgrade_to(NEW).await?;
    cluster.verified().await?;
    let after = cluster.job_runs().await?;
    ensure!(after.uid != before.uid, "the pod was not evicted");
    cluster.held_by(&after.uid).await.context("after the upgrade")?;
    cluster.all_run(NEW).await?;
    let said = says(cluster, &after)?;
    ensure!(said.contains(&format!("libcxi is of {NEW}")), "the pod says {said:?}");
    cluster.say("all run the second release, and the pod runs again");
    Ok(())
}
