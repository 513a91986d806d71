//! A retry handler goes with its driver, another one comes to drained nodes only, and one that failed is told.

use anyhow::{Result, ensure};
use cxi_api::{CXIDriverSpec, Phase, strategy::DrainPolicy};
use cxi_e2e::{
    harness::{NEWER_RETRY_HANDLER_IMAGE, RETRY_HANDLER_IMAGE},
    jobs::JobShape,
    scenario::Scenario,
    soft_node::LoadFailure,
};
use k8s_openapi::api::{apps::v1::DaemonSet, events::v1::Event};
use kube::{Api, api::ListParams};
use serde_json::json;

use super::{NAMESPACE, pods, with_retry_handler};

fn evicting(spec: &mut CXIDriverSpec) {
    with_retry_handler(spec);
    spec.update_strategy.drain.policy = DrainPolicy::Evict;
}

/// The image of the retry handler that is ready on each node.
async fn images(scenario: &Scenario) -> Result<Vec<String>> {
    let pods = pods(&scenario.harness, "retry-handler").await?;
    Ok(pods.into_values().filter(|(_, _, ready)| *ready).map(|(_, image, _)| image).collect())
}

async fn daemonsets(scenario: &Scenario) -> Result<usize> {
    let api: Api<DaemonSet> = Api::namespaced(scenario.harness.client.clone(), NAMESPACE);
    Ok(api.list(&ListParams::default().labels("cxi.hpe.com/role=retry-handler")).await?.items.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_retry_handler_comes_to_nodes_that_were_drained_for_it_and_the_driver_stays() -> Result<()> {
    let scenario = Scenario::installed(2, evicting).await?;
    scenario.harness.jobs.deployment("job", 1, &JobShape::on("n-01")).await?;
    let runs = async || Ok(scenario.harness.jobs.running_on("job").await? == ["n-01"]);
    scenario.until("the job runs", runs).await?;
    let before = scenario.harness.jobs.living("job").await?.remove(0).metadata.uid;

    let image = json!({ "spec": { "retryHandler": { "image": NEWER_RETRY_HANDLER_IMAGE } } });
    scenario.harness.edit_driver("cxi", &image).await?;
    let newer = async || Ok(images(&scenario).await? == [NEWER_RETRY_HANDLER_IMAGE, NEWER_RETRY_HANDLER_IMAGE]);
    scenario.until("both nodes have the newer one", newer).await?;
    scenario.verified().await?;
    for node in ["n-01", "n-02"] {
        ensure!(scenario.unloads(node) == 0, "{node} keeps its driver");
        ensure!(scenario.record(node).await?.is_some_and(|record| record.attempt == 2), "{node}: one transaction");
    }
    let moved = async || {
        let living = scenario.harness.jobs.living("job").await?;
        Ok(living.len() == 1 && living[0].metadata.uid != before)
    };
    scenario.until("the job was evicted, and runs again", moved).await?;
    scenario.until("the earlier DaemonSet is gone", async || Ok(daemonsets(&scenario).await? == 1)).await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_back_to_a_driver_gets_the_retry_handler_back_that_ran_with_it() -> Result<()> {
    let scenario = Scenario::installed(1, evicting).await?;
    let failure = LoadFailure { version: Some("13.1.0".to_owned()), leaves: 0 };
    scenario.harness.soft.fail_load("n-01", &failure)?;
    let both = json!({
        "spec": { "version": "13.1.0", "retryHandler": { "image": NEWER_RETRY_HANDLER_IMAGE } },
    });
    scenario.harness.edit_driver("cxi", &both).await?;
    scenario.until_phase("n-01", Phase::RollingBack).await?;
    let back = async || Ok(images(&scenario).await? == [RETRY_HANDLER_IMAGE]);
    scenario.until("the retry handler of the old driver is back", back).await?;
    scenario.until_phase("n-01", Phase::Pending).await?;
    ensure!(scenario.driver("n-01").as_deref() == Some("13.0.0"));
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_handler_that_ended_unasked_is_an_event_of_its_node_and_of_the_driver() -> Result<()> {
    let scenario = Scenario::installed(1, evicting).await?;
    scenario.harness.soft.fail_retry_handler("n-01", Some("it ended by signal 11: segmentation fault"))?;
    let events: Api<Event> = Api::namespaced(scenario.harness.client.clone(), "default");
    let said = async || {
        let all = events.list(&ListParams::default()).await?.items;
        let of = |kind: &str| {
            all.iter().any(|event| {
                let about = event.regarding.as_ref().and_then(|object| object.kind.as_deref()) == Some(kind);
                let note = event.note.as_deref().unwrap_or_default();
                about && event.reason.as_deref() == Some("RetryHandlerFailed") && note.contains("ended by signal 11")
            })
        };
        Ok(of("Node") && of("CXIDriver"))
    };
    scenario.until("both say it", said).await?;
    scenario.harness.soft.fail_retry_handler("n-01", None)?;
    scenario.finish().await
}
