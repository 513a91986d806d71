//! The modes of the retry handler: whichever is chosen, nothing of another one is left.

use anyhow::{Result, ensure};
use cxi_api::{driver::RetryHandlerMode, names::retry_handler_gate};
use cxi_e2e::{
    harness::{Harness, HarnessOptions},
    oracle::Oracle,
    scenario::LONG,
    soft_node::NodeShape,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use super::{condition, exists, pods, retry, with_retry_handler};

/// Where pods ask for sidecars.
const ASKS: &str = "asks";

const NODE: &str = "n-01";

/// What there is of retry handlers.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "what is there or not, each independent of the others")]
struct Seen {
    daemonset: bool,
    /// Whether the node has a pod of it, which is ready.
    pod: bool,
    gate: bool,
    /// Whether a pod that is made now gets a sidecar.
    injected: bool,
    /// Whether the status names images for sidecars.
    images: bool,
    condition: Option<(String, String)>,
}

impl Seen {
    fn of(mode: RetryHandlerMode) -> Self {
        let on_nodes = mode == RetryHandlerMode::Daemonset;
        let in_pods = mode == RetryHandlerMode::Sidecar;
        let condition = match mode {
            RetryHandlerMode::Daemonset => Some(("True", "PodsReady")),
            RetryHandlerMode::Sidecar => Some(("True", "Injected")),
            RetryHandlerMode::Kernel => Some(("Unknown", "LeftToTheHost")),
            RetryHandlerMode::None => None,
        };
        Self {
            daemonset: on_nodes,
            pod: on_nodes,
            gate: on_nodes,
            injected: in_pods,
            images: in_pods,
            condition: condition.map(|(status, reason)| (status.to_owned(), reason.to_owned())),
        }
    }

    async fn look(harness: &Harness) -> Result<Self> {
        let status = harness.driver("cxi").await?.and_then(|driver| driver.status).unwrap_or_default();
        Ok(Self {
            daemonset: exists(harness, &retry()).await?,
            pod: pods(harness, "retry-handler").await?.values().any(|(_, _, ready)| *ready),
            gate: harness.node(NODE).await?.labels().contains_key(&retry_handler_gate("cxi")),
            injected: is_injected(harness).await?,
            images: status.sidecar.is_some(),
            condition: condition(harness, "RetryHandlerReady").await?,
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_of_the_retry_handler_leaves_nothing_to_the_next() -> Result<()> {
    use RetryHandlerMode::{Daemonset, Kernel, None, Sidecar};
    let mut harness = Harness::start(HarnessOptions::default()).await?;
    harness.soft.add_nodes("n", 1, &NodeShape::default());
    harness.soft.wait_until_ready(LONG).await?;
    namespace(&harness).await?;
    let oracle = Oracle::start(&harness.client, &harness.soft);
    let operator = harness.spawn_operator(&[])?;
    harness.create_driver("cxi", "13.0.0", with_retry_handler).await?;
    harness.wait_verified("cxi", 1, LONG).await?;
    let attempt = attempt(&harness).await?;

    // Between daemonset and sidecar: see the scenario with the job that keeps its retry handler.
    for mode in [Daemonset, Kernel, Sidecar, None, Daemonset, None, Sidecar, Kernel, Daemonset] {
        harness.edit_driver("cxi", &json!({ "spec": { "retryHandler": { "mode": mode } } })).await?;
        let wanted = Seen::of(mode);
        let is_so = async |h: &Harness| Ok(Seen::look(h).await? == wanted);
        harness.wait_until(&format!("{mode:?} and nothing else"), LONG, is_so).await?;
    }
    // Switched off it is as with mode none, whatever the mode.
    harness.edit_driver("cxi", &json!({ "spec": { "retryHandler": { "enabled": false } } })).await?;
    let off = async |h: &Harness| Ok(Seen::look(h).await? == Seen::of(None));
    harness.wait_until("switched off", LONG, off).await?;

    ensure!(self::attempt(&harness).await? == attempt, "no mode is a reason to take the driver from a node");
    let violations = oracle.finish().await;
    ensure!(violations.is_empty(), "{violations:#?}");
    operator.stop()?;
    harness.give_back().await
}

/// How many transactions the node went through.
async fn attempt(harness: &Harness) -> Result<Option<i32>> {
    let node = harness.cxi_node(NODE).await?;
    Ok(node.and_then(|node| Some(node.status?.rollout?.attempt)))
}

/// A namespace that asks for sidecars, with the account that a controller makes a moment later.
async fn namespace(harness: &Harness) -> Result<()> {
    let labels = json!({ "slingshot.hpe.com/inject-sidecar": "enabled" });
    apply(harness, "Namespace", None, &json!({ "name": ASKS, "labels": labels })).await?;
    apply(harness, "ServiceAccount", Some(ASKS), &json!({ "name": "default", "namespace": ASKS })).await
}

async fn apply(harness: &Harness, kind: &str, namespace: Option<&str>, metadata: &Value) -> Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(harness.client.clone(), namespace, &resource),
        None => Api::all_with(harness.client.clone(), &resource),
    };
    let object = json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata });
    let name = metadata["name"].as_str().unwrap_or_default();
    api.patch(name, &PatchParams::apply("e2e-scenario"), &Patch::Apply(&object)).await?;
    Ok(())
}

/// Whether the API server puts a retry handler into a pod that asks for a NIC. Nothing is made.
async fn is_injected(harness: &Harness) -> Result<bool> {
    let container = json!({ "name": "app", "image": "app:1", "resources": { "limits": { "hpe.com/cxi": "1" } } });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "job" }, "spec": { "containers": [container] },
    });
    let api: Api<Pod> = Api::namespaced(harness.client.clone(), ASKS);
    let asked = PostParams { dry_run: true, ..PostParams::default() };
    let pod = api.create(&asked, &serde_json::from_value(pod)?).await?;
    let containers = pod.spec.and_then(|spec| spec.init_containers).unwrap_or_default();
    Ok(containers.iter().any(|container| container.name == "cxi-retry-handler"))
}
