//! A node of whole-node jobs: its CPU is requested to the last millicore.

use anyhow::{Context, Result, ensure};
use cxi_e2e::{jobs::JobShape, scenario::NEW};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::api::resource::Quantity};
use kube::{Api, api::ListParams};

use crate::cluster::{Cluster, JOB};

/// The kubelet refuses what does not fit, and takes the operator's pods: the image is pulled while the job still runs, and the job
/// leaves by the Eviction API and nothing else.
pub async fn a_node_without_a_millicore_left_is_upgraded(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.guests[0].name.clone();
    let before = cluster.job_runs().await?;
    let left = left(cluster, &node).await?;
    ensure!(left > 0, "the node has no CPU to give away");
    let shape = JobShape { millicores: left, ..JobShape::on(&node) };
    cluster.scenario.harness.jobs.deployment(JOB, 1, &shape).await?;
    cluster
        .until("one pod has what was left", async |h| {
            let pods = h.jobs.living(JOB).await?;
            let new = pods.iter().all(|pod| pod.metadata.uid.as_ref() != Some(&before.uid));
            Ok(new && pods.len() == 1 && h.jobs.running_on(JOB).await?.len() == 1)
        })
        .await?;
    let full = cluster.job_runs().await?;
    ensure!(self::left(cluster, &node).await? == 0, "the node is not full");
    cluster.say("a guest's CPU is requested to the last millicore");

    cluster.scenario.upgrade_to(NEW).await?;
    cluster.verified().await?;
    cluster.all_run(NEW).await?;
    let after = cluster.job_runs().await?;
    ensure!(after.uid != full.uid, "the pod was not evicted");
    let status = cluster.scenario.harness.cxi_node(&node).await?.and_then(|node| node.status?.rollout);
    let last = status.and_then(|rollout| rollout.history.last().map(|entry| entry.result.to_string()));
    ensure!(last.as_deref() == Some("Verified"), "the last transaction ended with {last:?}");
    ensure!(self::left(cluster, &node).await? == 0, "the job has not its CPU back");
    cluster.say("it runs the second release, and the job has its CPU back");
    Ok(())
}

/// Thousandths of a processor of a node that no pod has asked for.
async fn left(cluster: &Cluster, node: &str) -> Result<i64> {
    let harness = &cluster.scenario.harness;
    let status = harness.node(node).await?.status.context("a kubelet tells what its node has")?;
    let has = status.allocatable.and_then(|all| all.get("cpu").map(millicores)).context("a node has processors")?;
    let pods: Api<Pod> = Api::all(harness.client.clone());
    let on_node =
        ListParams::default().fields(&format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"));
    let asked = |pod: &Pod| -> i64 {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let requests = containers.filter_map(|one| one.resources.as_ref()?.requests.as_ref()?.get("cpu"));
        requests.map(millicores).sum()
    };
    Ok(has - pods.list(&on_node).await?.iter().map(asked).sum::<i64>())
}

fn millicores(quantity: &Quantity) -> i64 {
    match quantity.0.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().unwrap_or_default(),
        None => quantity.0.parse::<i64>().unwrap_or_default() * 1000,
    }
}
