//! What happens on nodes beside the operator: processes of the host, and reboots.

use anyhow::{Context, Result, ensure};
use cxi_api::{Phase, Reason};
use cxi_e2e::scenario::{NEW, OLD};

use crate::cluster::{Cluster, LONG};

/// A process that Kubernetes knows nothing of has a NIC open: it is named, nothing is forced, and when it has ended the driver
/// is swapped.
pub async fn a_process_of_the_host_is_waited_for(cluster: &mut Cluster) -> Result<()> {
    let (node, other) = (cluster.guests[0].name.clone(), cluster.guests[1].name.clone());
    let pid = cluster.on(0, |guest| guest.start("exec 3<>/dev/cxi0; exec sleep 1000000"))?;
    cluster
        .until("the agent reports the process", async |h| {
            let report = h.cxi_node(&node).await?.and_then(|node| node.status?.node);
            Ok(report.is_some_and(|r| {
                r.open_files.iter().any(|file| u32::try_from(file.pid) == Ok(pid) && file.pod_uid.is_none())
            }))
        })
        .await?;
    cluster.scenario.upgrade_to(OLD).await?;
    let named = format!("{pid}");
    cluster
        .until("the node says which process is in the way", async |h| {
            let blocker = h.cxi_node(&node).await?.and_then(|node| node.status?.rollout?.blocked_by);
            Ok(blocker.is_some_and(|blocker| blocker.reason == Reason::HostHolder && blocker.message.contains(&named)))
        })
        .await?;
    cluster.say("a node says which process of the host is in the way");
    let target = cluster.scenario.revision(OLD).await?;
    cluster
        .until("the other guest goes on", async |h| {
            let rollout = h.cxi_node(&other).await?.and_then(|node| node.status?.rollout);
            Ok(rollout.is_some_and(|r| r.phase == Phase::UpToDate && r.revision.as_ref() == Some(&target)))
        })
        .await?;
    let (old, new) = (cluster.images.build_ids[OLD].clone(), cluster.images.build_ids[NEW].clone());
    ensure!(cluster.on(1, super::node::WholeNode::loaded)? == old, "{other} has another driver than it says");
    ensure!(cluster.on(0, super::node::WholeNode::loaded)? == new, "the driver was taken from under a process");
    cluster.on(0, |guest| guest.shell(&format!("kill {pid}")))?;
    cluster.verified().await?;
    cluster.all_run(OLD).await?;
    cluster.say("the process has ended, and the driver was swapped");
    Ok(())
}

/// A machine reboots while its driver is swapped.
pub async fn a_machine_reboots_in_the_middle(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.guests[0].name.clone();
    let boot = cluster.boot_id(&node).await?;
    cluster.scenario.upgrade_to(NEW).await?;
    let harness = &cluster.scenario.harness;
    let phase = async || {
        let rollout = harness.cxi_node(&node).await?.and_then(|node| node.status?.rollout);
        Ok::<_, anyhow::Error>(rollout.map(|rollout| rollout.phase))
    };
    cluster
        .until("the driver is being swapped", async |_| {
            Ok(matches!(phase().await?, Some(Phase::Unloading | Phase::Loading)))
        })
        .await?;
    cluster.on(0, super::node::WholeNode::reboot)?;
    cluster.say("a guest has rebooted in the middle");
    cluster
        .until("the kubelet tells of the new boot", async |_| Ok(cluster.boot_id(&node).await? != boot))
        .await
        .with_context(|| format!("within {LONG:?}"))?;
    cluster.verified().await?;
    cluster.all_run(NEW).await?;
    let pod = cluster.job_runs().await?;
    cluster.held_by(&pod.uid).await.context("after the reboot")?;
    cluster.say("it runs the second release, and the pod runs again");
    Ok(())
}
