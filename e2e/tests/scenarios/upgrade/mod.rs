//! Upgrades on the real control plane with the real KMM: each scenario ends in the expected state, with a silent oracle.

mod builds;
mod drain;
mod failure;
mod host_driver;
mod images;
mod install;
mod obstacles;
mod requests;
mod revert;
mod stubborn;
mod timeouts;
mod waiting;

use std::time::Duration;

use anyhow::{Context, Result};
use cxi_api::{CXIDriverSpec, GoDuration, strategy::DrainPolicy};
use cxi_e2e::{
    jobs,
    oracle::Allowed,
    scenario::{LONG, Scenario},
    truth::Fact,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::util::intstr::IntOrString};
use kube::{Api, ResourceExt, api::DeleteParams};

/// A change of the spec: so many nodes at a time.
fn at_once(nodes: i32) -> impl FnOnce(&mut CXIDriverSpec) {
    move |spec| spec.update_strategy.max_unavailable = IntOrString::Int(nodes)
}

/// A change of the spec: running pods are waited for, for so many seconds.
fn waits(policy: DrainPolicy, seconds: u64) -> impl FnOnce(&mut CXIDriverSpec) {
    move |spec| {
        spec.update_strategy.drain.policy = policy;
        spec.update_strategy.drain.wait_timeout = GoDuration(Duration::from_secs(seconds));
    }
}

/// Waits until the pods of a workload run.
async fn run(s: &Scenario, job: &str, pods: usize) -> Result<()> {
    s.until(&format!("{pods} pods of {job} run"), || async { Ok(s.harness.jobs.running_on(job).await?.len() == pods) })
        .await
}

/// UIDs of the living pods of a workload.
async fn uids(s: &Scenario, job: &str) -> Result<Vec<String>> {
    let mut uids: Vec<String> = s.harness.jobs.living(job).await?.iter().filter_map(ResourceExt::uid).collect();
    uids.sort();
    Ok(uids)
}

/// How often a pod of a workload started on any node.
fn starts(s: &Scenario, job: &str) -> usize {
    let prefix = format!("{}/{job}", jobs::NAMESPACE);
    let opened = |fact: &Fact| matches!(fact, Fact::Opened { pod, .. } if pod.starts_with(&prefix));
    s.harness.soft.records().iter().filter(|record| opened(&record.fact)).count()
}

/// The pod's user deletes it.
async fn user_deletes(s: &Scenario, pod: &str) -> Result<()> {
    s.allow(&Allowed::PodDeletion(format!("{}/{pod}", jobs::NAMESPACE)), LONG);
    let pods: Api<Pod> = Api::namespaced(s.harness.client.clone(), jobs::NAMESPACE);
    pods.delete(pod, &DeleteParams::default()).await.with_context(|| format!("delete pod {pod}"))?;
    Ok(())
}
