//! What the kubelet does when it starts again, which we must know and cannot change.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use cxi_api::{Advertise, Phase, names::device_plugin_gate};
use cxi_e2e::{
    jobs::JobShape,
    oracle::Allowed,
    scenario::{DRIVER, OLD},
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, LONG};

/// The kubelet of a node that waits for its pods starts again: the pod that holds a NIC is not touched, and nobody else gets
/// one.
pub async fn a_restart_while_the_node_waits(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.guests[0].name.clone();
    let before = cluster.job_runs().await?;
    drain(cluster, "WaitForCompletion").await?;
    cluster.scenario.upgrade_to(OLD).await?;
    cluster
        .until("the node waits, and offers only what is in use", async |h| {
            let rollout = h.cxi_node(&node).await?.and_then(|node| node.status?.rollout);
            let waits = rollout.is_some_and(|r| r.phase == Phase::Waiting && r.advertise == Advertise::InUse);
            Ok(waits && cluster.scenario.offered(&node).await? == 1)
        })
        .await?;
    cluster.say("a guest waits for its pod");
    restart(cluster).await?;
    let after = cluster.job_runs().await?;
    ensure!(after == before, "the pod was {before:?} and is {after:?}");
    cluster.held_by(&after.uid).await?;
    cluster
        .until("the node still offers what is in use", async |_| Ok(cluster.scenario.offered(&node).await? == 1))
        .await?;
    let phase = cluster.scenario.phase(&node).await?;
    ensure!(phase == Some(Phase::Waiting), "the node is {phase:?}");
    cluster.say("its kubelet was started again, and the pod was not touched");

    drain(cluster, "Evict").await?;
    cluster.verified().await?;
    cluster.all_run(OLD).await?;
    cluster.say("the pod was evicted, and all run the first release");
    Ok(())
}

/// The kubelet of a closed node starts again. A pod whose container runs stays; one whose container does not run at that moment
/// is lost: the kubelet admits it anew, and there is no device for it. This is why a node is never closed for long.
pub async fn a_restart_while_the_plugin_is_gone(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.guests[0].name.clone();
    let before = cluster.job_runs().await?;
    // By hand, and without the operator, which would see to it.
    cluster.scenario.kill_operator()?;
    cluster.scenario.allow(&Allowed::OurLabels(node.clone()), LONG);
    cluster.scenario.allow(&Allowed::PodDeletion("jobs/".to_owned()), LONG);
    let gate = device_plugin_gate(DRIVER);
    let labels = cluster.scenario.harness.node(&node).await?.metadata.labels.unwrap_or_default();
    let revision = labels.get(&gate).context("a node in service has the gate")?.clone();
    set_label(cluster, &node, &gate, Value::Null).await?;
    cluster.until("the node offers nothing", async |_| Ok(cluster.scenario.offered(&node).await? == 0)).await?;
    restart(cluster).await?;
    let after = cluster.job_runs().await?;
    ensure!(after == before, "the pod was {before:?} and is {after:?}");
    cluster.say("the plugin was gone and the kubelet was started again: a running container stayed");

    let pid = cluster.pid_of(&before.uid).await?;
    cluster.on(0, |guest| {
        guest.kill_kubelet()?;
        guest.shell(&format!("kill -9 {pid}; while [ -e /proc/{pid} ]; do sleep 0.1; done"))?;
        guest.start_kubelet()
    })?;
    let name = before.name.clone();
    cluster
        .until("the kubelet refuses the pod", async |h| {
            let status = h.jobs.get(&name).await?.and_then(|pod| pod.status).unwrap_or_default();
            let failed = status.phase.as_deref() == Some("Failed");
            Ok(failed && status.reason.as_deref() == Some("UnexpectedAdmissionError"))
        })
        .await?;
    cluster.say("one that did not run at that moment was refused its device");

    set_label(cluster, &node, &gate, json!(revision)).await?;
    cluster.scenario.start_operator(&[])?;
    cluster.verified().await?;
    let new = cluster.job_runs().await?;
    ensure!(new.uid != before.uid, "the pod that was refused runs");
    cluster.all_run(OLD).await
}

async fn drain(cluster: &Cluster, policy: &str) -> Result<()> {
    let patch = json!({ "spec": { "updateStrategy": { "drain": { "policy": policy } } } });
    cluster.scenario.harness.edit_driver(DRIVER, &patch).await
}

async fn set_label(cluster: &Cluster, node: &str, key: &str, value: Value) -> Result<()> {
    let labels: BTreeMap<&str, Value> = [(key, value)].into();
    cluster.scenario.harness.patch_node(node, &json!({ "metadata": { "labels": labels } })).await
}

/// Kills the first guest's kubelet, starts it, and waits until it has looked after its pods again: it takes a new one only after
/// those that were there.
async fn restart(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.guests[0].name.clone();
    cluster.on(0, |guest| {
        guest.kill_kubelet()?;
        guest.start_kubelet()
    })?;
    cluster.restarts += 1;
    let name = format!("after-restart-{}", cluster.restarts);
    let shape = JobShape { nics: 0, ..JobShape::on(&node) };
    cluster.scenario.harness.jobs.pod(&name, &shape).await?;
    cluster.until("the kubelet runs a new pod", async |h| Ok(h.jobs.running_on(&name).await?.len() == 1)).await
}
