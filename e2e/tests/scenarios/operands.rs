//! The DaemonSets of a CXIDriver: where their pods run, and that they are gone when it is.

mod dead_nodes;
mod modes;
mod retry_handlers;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use cxi_api::{
    CXIDriverSpec,
    driver::RetryHandlerMode,
    names::{ORPHAN_ANNOTATION, retry_handler_daemonset, retry_handler_value},
};
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    harness::{Harness, HarnessOptions, RETRY_HANDLER_IMAGE},
    jobs::{JobShape, NAMESPACE as JOBS},
    operator::{AGENT_IMAGE, DEVICE_PLUGIN_IMAGE},
    oracle::Oracle,
    planes::Contents,
    scenario::LONG,
    soft_node::NodeShape,
};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod, events::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use tokio::task::block_in_place;

const AGENT: &str = "cxi-agent-cxi";
const PLUGIN: &str = "cxi-device-plugin-cxi";
const EXPORTER: &str = "cxi-metrics-exporter-cxi";

const ROLES: [&str; 4] = ["agent", "device-plugin", "metrics-exporter", "retry-handler"];

#[tokio::test(flavor = "multi_thread")]
async fn agents_run_on_every_node_that_is_owned_and_go_with_the_last() -> Result<()> {
    let mut harness = Harness::start(HarnessOptions::default()).await?;
    harness.soft.add_nodes("n", 2, &NodeShape::default());
    let other = NodeShape { labels: [("rack".to_owned(), "7".to_owned())].into(), ..NodeShape::default() };
    harness.soft.add_nodes("other", 1, &other);
    harness.soft.wait_until_ready(LONG).await?;
    let operator = harness.spawn_operator(&[])?;
    harness.create_driver("cxi", "13.0.0", with_retry_handler).await?;
    harness.wait_verified("cxi", 2, LONG).await?;
    all_run(&harness).await?;

    // Closed or not, a node that is owned has its agent.
    let agents = pods(&harness, "agent").await?;
    harness.edit_driver("cxi", &json!({ "spec": { "devicePlugin": { "enabled": false } } })).await?;
    let gone = async |h: &Harness| Ok(pods(h, "device-plugin").await?.is_empty() && !exists(h, PLUGIN).await?);
    harness.wait_until("the device plugin is gone", LONG, gone).await?;
    ensure!(pods(&harness, "agent").await? == agents, "the agents stay as they are");
    harness.edit_driver("cxi", &json!({ "spec": { "devicePlugin": { "enabled": true } } })).await?;
    all_run(&harness).await?;

    harness.delete_driver("cxi").await?;
    nothing_is_left(&harness).await?;
    let unloaded = harness.soft.truth("n-01").is_some_and(|truth| truth.driver.is_none());
    ensure!(unloaded, "the driver is taken out while the agents are there to prove it");

    harness.create_driver("cxi", "13.0.0", with_retry_handler).await?;
    harness.wait_verified("cxi", 2, LONG).await?;
    all_run(&harness).await?;
    harness.edit_driver("cxi", &json!({ "metadata": { "annotations": { ORPHAN_ANNOTATION: "true" } } })).await?;
    harness.delete_driver("cxi").await?;
    nothing_is_left(&harness).await?;
    ensure!(harness.soft.truth("n-01").is_some_and(|truth| truth.driver.is_some()), "the driver stays");
    operator.stop()?;
    harness.give_back().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_handler_goes_from_a_node_when_no_pod_there_needs_it() -> Result<()> {
    let mut harness = Harness::start(HarnessOptions::default()).await?;
    harness.soft.add_nodes("n", 2, &NodeShape::default());
    harness.soft.wait_until_ready(LONG).await?;
    let oracle = Oracle::start(&harness.client, &harness.soft);
    let operator = harness.spawn_operator(&[])?;
    let earlier = "ghcr.io/sielicki/slingshot-operator/device-plugin:v0.1.0".to_owned();
    let without = |spec: &mut CXIDriverSpec| spec.device_plugin.image = Some(earlier.clone());
    harness.create_driver("cxi", "13.0.0", without).await?;
    harness.wait_verified("cxi", 2, LONG).await?;
    let required = Some(("False".to_owned(), "ImageRequired".to_owned()));
    let told = async |h: &Harness| Ok(condition(h, "RetryHandlerReady").await? == required);
    harness.wait_until("a condition asks for an image", LONG, told).await?;
    let image = json!({ "spec": { "retryHandler": { "image": RETRY_HANDLER_IMAGE } } });
    harness.edit_driver("cxi", &image).await?;
    harness.wait_verified("cxi", 2, LONG).await?;
    all_run(&harness).await?;
    let said = async |h: &Harness| {
        let events: Api<Event> = Api::namespaced(h.client.clone(), "default");
        let all = events.list(&ListParams::default()).await?;
        Ok(all.items.iter().any(|event| {
            let about = event.regarding.as_ref().and_then(|object| object.kind.as_deref());
            let note = event.note.as_deref().unwrap_or_default();
            about == Some("CXIDriver") && event.reason.as_deref() == Some("ImageReplaced") && note.contains(&earlier)
        }))
    };
    harness.wait_until("an event says which image was replaced", LONG, said).await?;

    harness.jobs.pod("job", &JobShape::on("n-01")).await?;
    let runs = async |h: &Harness| Ok(!h.jobs.running_on("job").await?.is_empty());
    harness.wait_until("the job runs", LONG, runs).await?;
    let before = pods(&harness, "retry-handler").await?;
    harness.edit_driver("cxi", &json!({ "spec": { "retryHandler": { "mode": "sidecar" } } })).await?;
    let one_left = async |h: &Harness| Ok(pods(h, "retry-handler").await?.keys().eq(["n-01"]));
    harness.wait_until("the idle node has none", LONG, one_left).await?;
    ensure!(pods(&harness, "retry-handler").await?["n-01"] == before["n-01"], "the job keeps its retry handler");
    let waits = Some(("False".to_owned(), "StillOnNodes".to_owned()));
    let told = async |h: &Harness| Ok(condition(h, "RetryHandlerReady").await? == waits);
    harness.wait_until("a condition says what it waits for", LONG, told).await?;

    let api: Api<Pod> = Api::namespaced(harness.client.clone(), JOBS);
    api.delete("job", &DeleteParams::default()).await?;
    let none = async |h: &Harness| Ok(pods(h, "retry-handler").await?.is_empty() && !exists(h, &retry()).await?);
    harness.wait_until("none is left", LONG, none).await?;
    let injected = Some(("True".to_owned(), "Injected".to_owned()));
    let told = async |h: &Harness| Ok(condition(h, "RetryHandlerReady").await? == injected);
    harness.wait_until("the policy is seen to be in force", LONG, told).await?;
    let images = harness.driver("cxi").await?.and_then(|driver| driver.status?.sidecar);
    ensure!(images.is_some_and(
        |images| images.agent == AGENT_IMAGE && images.retry_handler.as_deref() == Some(RETRY_HANDLER_IMAGE)
    ));

    // Back, and through an upgrade: the retry handler is gone while the driver is replaced, which the soft nodes refuse otherwise.
    harness.edit_driver("cxi", &json!({ "spec": { "retryHandler": { "mode": "daemonset" } } })).await?;
    all_run(&harness).await?;
    harness.edit_version("cxi", "13.1.0").await?;
    harness.wait_verified("cxi", 2, LONG).await?;
    all_run(&harness).await?;
    let violations = oracle.finish().await;
    ensure!(violations.is_empty(), "{violations:#?}");
    operator.stop()?;
    harness.give_back().await
}

fn with_retry_handler(spec: &mut CXIDriverSpec) {
    spec.retry_handler.image = Some(RETRY_HANDLER_IMAGE.to_owned());
}

/// Status and reason of a condition of the CXIDriver.
async fn condition(harness: &Harness, type_: &str) -> Result<Option<(String, String)>> {
    let status = harness.driver("cxi").await?.and_then(|driver| driver.status).unwrap_or_default();
    let found = status.conditions.into_iter().find(|condition| condition.type_ == type_);
    Ok(found.map(|condition| (condition.status, condition.reason)))
}

/// Every operand runs on both nodes of the CXIDriver and nowhere else, and the conditions say so.
async fn all_run(harness: &Harness) -> Result<()> {
    let running = |pods: BTreeMap<String, (String, String, bool)>, image: &str| {
        pods.keys().map(String::as_str).eq(["n-01", "n-02"]) && pods.values().all(|pod| pod.1 == image && pod.2)
    };
    let all = async |h: &Harness| {
        for role in ROLES {
            let image = match role {
                "device-plugin" => DEVICE_PLUGIN_IMAGE,
                "retry-handler" => RETRY_HANDLER_IMAGE,
                _ => AGENT_IMAGE,
            };
            if !running(pods(h, role).await?, image) {
                return Ok(false);
            }
        }
        let types = ["AgentReady", "DevicePluginReady", "MetricsExporterReady", "RetryHandlerReady"];
        let mut all_true = true;
        for type_ in types {
            all_true &= condition(h, type_).await?.is_some_and(|(status, _)| status == "True");
        }
        Ok(all_true)
    };
    harness.wait_until("all operands run on both nodes", LONG, all).await
}

/// The CXIDriver goes last: when it is gone, so are its DaemonSets.
async fn nothing_is_left(harness: &Harness) -> Result<()> {
    let gone = async |h: &Harness| Ok(h.driver("cxi").await?.is_none());
    harness.wait_until("the CXIDriver is gone", LONG, gone).await?;
    for name in [AGENT, PLUGIN, EXPORTER, &retry()] {
        ensure!(!exists(harness, name).await?, "{name} is left behind");
    }
    let gone = async |h: &Harness| {
        for role in ROLES {
            if !pods(h, role).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    harness.wait_until("the pods are gone", LONG, gone).await
}

async fn exists(harness: &Harness, name: &str) -> Result<bool> {
    let api: Api<DaemonSet> = Api::namespaced(harness.client.clone(), NAMESPACE);
    Ok(api.get_opt(name).await?.is_some())
}

/// The DaemonSet of [`RETRY_HANDLER_IMAGE`].
fn retry() -> String {
    retry_handler_daemonset("cxi", &retry_handler_value(RETRY_HANDLER_IMAGE))
}

/// Pods of a role by node: UID, image, and whether it is ready.
async fn pods(harness: &Harness, role: &str) -> Result<BTreeMap<String, (String, String, bool)>> {
    let api: Api<Pod> = Api::namespaced(harness.client.clone(), NAMESPACE);
    let list = api.list(&ListParams::default().labels(&format!("cxi.hpe.com/role={role}"))).await?;
    let pods = list.items.into_iter().map(|pod| {
        let uid = pod.uid().unwrap_or_default();
        let spec = pod.spec.unwrap_or_default();
        let image = spec.containers.first().and_then(|container| container.image.clone()).unwrap_or_default();
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        (spec.node_name.unwrap_or_default(), (uid, image, ready))
    });
    Ok(pods.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_mutating_policies_is_told_that_sidecars_need_them() -> Result<()> {
    let options = HarnessOptions { contents: Contents::WithoutMutatingPolicies, ..HarnessOptions::default() };
    let harness = Harness::start(options).await?;
    let served =
        block_in_place(|| harness.plane.kubectl(&["api-resources", "--api-group=admissionregistration.k8s.io"]))?;
    ensure!(
        served.contains("validatingadmissionpolicies") && !served.contains("mutatingadmissionpolicies"),
        "{served}"
    );

    let operator = harness.spawn_operator(&[])?;
    let sidecar = |spec: &mut CXIDriverSpec| {
        spec.retry_handler.mode = RetryHandlerMode::Sidecar;
        with_retry_handler(spec);
    };
    harness.create_driver("cxi", "13.0.0", sidecar).await?;
    let wanted = Some(("False".to_owned(), "MutatingAdmissionPolicyNotServed".to_owned()));
    let told = async |h: &Harness| Ok(condition(h, "RetryHandlerReady").await? == wanted);
    harness.wait_until("a condition says that nothing adds the sidecar", LONG, told).await?;
    let conditions = harness.driver("cxi").await?.and_then(|driver| driver.status).unwrap_or_default().conditions;
    let message = conditions.into_iter().find(|condition| condition.type_ == "RetryHandlerReady").map(|c| c.message);
    ensure!(message.is_some_and(|message| message.contains("retryHandler.mode daemonset")), "the way out is named");
    operator.stop()?;
    Ok(())
}
