//! From the earlier slingshot-operator to this one as docs/migrate-from-slingshot-operator.md has it, on a cluster that ran the
//! earlier one and has no KMM: its CXIDriver, what kubectl shows, a pod, the metrics.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use cxi_control_plane::{ControlPlane, NAMESPACE};
use cxi_e2e::{
    harness::{Agents, Harness, HarnessOptions, RETRY_HANDLER_IMAGE},
    jobs::NAMESPACE as JOBS,
    node_program::Exporter,
    operator::{AGENT_IMAGE, DEVICE_PLUGIN_IMAGE},
    oracle::Oracle,
    planes::Contents,
    scenario::LONG,
    scrape::metrics,
    soft_node::{HostDriver, NodeShape},
    wait::wait_for,
};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod, events::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::json;
use tokio::task::block_in_place;

use crate::page::{Page, Shell};

/// The CXIDriver of its first steps.
const FIRST_STEPS: &str = include_str!("fixtures/earlier-first-steps.yaml");

const DRIVER: &str = "cxi-driver";

/// Repository of its images.
const EARLIER_IMAGES: &str = "ghcr.io/sielicki/slingshot-operator/";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_earlier_operator_had_goes_on_with_this_one() -> Result<()> {
    // Its namespace and CRDs are there before ours, so this control plane is nobody else's.
    let options = HarnessOptions { agents: Agents::Real, contents: Contents::WithoutKmm, ..HarnessOptions::default() };
    let harness = Harness::start(options).await?;
    block_in_place(|| the_earlier_one_ran_here(&harness.plane))?;
    block_in_place(|| it_still_runs(&harness.plane))?;
    block_in_place(|| before(&harness.plane))?;

    let oracle = Oracle::start(&harness.client, &harness.soft);
    for (name, at_boot) in [("n-01", true), ("n-02", false)] {
        let host_driver = Some(HostDriver { version: "1.8.3".to_owned(), at_boot });
        harness.soft.add_node(name, NodeShape { host_driver, ..NodeShape::default() });
    }
    harness.soft.wait_until_ready(LONG).await?;
    let operator = harness.spawn_operator(&[])?;
    oracle.operator_runs(true);
    harness.wait_verified(DRIVER, 2, LONG).await?;
    ensure!(
        harness.soft.truth("n-02").and_then(|truth| truth.driver).is_some_and(|build| build.version == "1.8.3"),
        "the host's driver is loaded where it was not"
    );

    its_images_are_replaced(&harness).await?;
    let image = json!({ "spec": { "retryHandler": { "image": RETRY_HANDLER_IMAGE } } });
    harness.edit_driver(DRIVER, &image).await?;
    harness.wait_verified(DRIVER, 2, LONG).await?;
    kubectl_shows_the_driver_and_the_nics(&harness).await?;
    its_pods_are_the_latest(&harness).await?;
    a_pod_gets_a_nic(&harness).await?;
    the_six_metrics_are_served(&harness).await?;

    let violations = oracle.finish().await;
    ensure!(violations.is_empty(), "{violations:#?}");
    operator.stop()?;
    Ok(())
}

/// What the earlier operator leaves in a cluster.
fn the_earlier_one_ran_here(plane: &ControlPlane) -> Result<()> {
    Shell::of(plane)?.run("kubectl delete crd cxidrivers.cxi.hpe.com cxidevices.cxi.hpe.com")?;
    // As Helm does it: whoever applies later finds the fields owned by somebody else.
    let create = ["create", "--field-manager=helm", "-f", "-"];
    plane.kubectl_with_input(&create, include_str!("fixtures/earlier-crds.yaml"))?;
    plane.wait_for_crds()?;
    plane.kubectl_with_input(&["apply", "-f", "-"], FIRST_STEPS)?;
    let finalizer = json!({ "metadata": { "finalizers": ["cxi.hpe.com/finalizer"] } }).to_string();
    plane.kubectl(&["patch", "cxidriver", DRIVER, "--type=merge", "-p", &finalizer])?;
    let condition = json!({
        "type": "Available", "status": "True", "reason": "Ready", "message": "2 nodes ready",
        "lastTransitionTime": "2026-01-12T00:00:00Z",
    });
    let status = json!({ "status": {
        "observedGeneration": 1, "ready": 2, "updating": 0, "failed": 0, "driverVersion": "1.8.3",
        "retryHandlerMode": "daemonset", "conditions": [condition],
    } });
    plane.kubectl(&[
        "patch",
        "cxidriver",
        DRIVER,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ])?;
    for name in ["n-01-cxi0", "left-cxi0"] {
        let device = json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXIDevice",
            "metadata": { "name": name, "labels": { "slingshot.hpe.com/device": "cxi0" } },
            "spec": {}, "status": { "node": "left", "device": "cxi0", "switchID": 4 },
        });
        plane.kubectl_with_input(&["apply", "-f", "-"], &device.to_string())?;
    }
    Ok(())
}

/// What of the earlier operator is still at work when its successor comes, in both of its namespaces.
fn it_still_runs(plane: &ControlPlane) -> Result<()> {
    let name = json!({ "app.kubernetes.io/name": "slingshot-operator" });
    let managed = json!({ "app.kubernetes.io/managed-by": "slingshot-operator" });
    let pod = json!({
        "metadata": { "labels": name },
        "spec": { "containers": [{ "name": "manager", "image": format!("{EARLIER_IMAGES}manager:latest") }] },
    });
    let spec = json!({ "selector": { "matchLabels": name }, "template": pod });
    let mut objects = Vec::new();
    for namespace in ["slingshot-system", "slingshot-operator-system"] {
        objects.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }));
        for (kind, labels) in [("Deployment", &name), ("DaemonSet", &managed)] {
            let metadata = json!({ "name": "earlier", "namespace": namespace, "labels": labels });
            objects.push(json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec }));
        }
    }
    // One as Helm names and labels it, the other as kustomize does. Nobody answers them.
    let webhook = json!({
        "name": "validate-cxidriver.slingshot.hpe.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Fail",
        "clientConfig": { "service": { "name": "webhook-service", "namespace": "slingshot-operator-system" } },
        "rules": [{
            "apiGroups": ["cxi.hpe.com"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": ["cxidrivers"],
        }],
    });
    for metadata in [
        json!({ "name": "slingshot-operator-cxidriver", "labels": name }),
        json!({ "name": "slingshot-operator-validating-webhook-configuration" }),
    ] {
        objects.push(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": metadata, "webhooks": [webhook],
        }));
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    plane.kubectl_with_input(&["create", "-f", "-"], &list.to_string())?;
    Ok(())
}

/// What the page says under "Before", as it is written, up to the installation: but for the CRDs it is there.
fn before(plane: &ControlPlane) -> Result<()> {
    let shell = Shell::of(plane)?;
    let blocks = Page::read("migrate-from-slingshot-operator.md")?.section("Before")?.blocks("sh");
    let [stop, free, crds, _install] = &blocks[..] else { anyhow::bail!("four blocks: {blocks:#?}") };
    shell.run(stop)?;
    let left =
        "kubectl get -A deployments,daemonsets,validatingwebhookconfigurations,mutatingwebhookconfigurations -o name";
    let left = shell.run(left)?;
    ensure!(!left.contains("earlier") && !left.contains("slingshot"), "the earlier operator is still there: {left}");
    shell.run(free)?;
    shell.run(crds)?;
    plane.wait_for_crds()?;
    let drivers = shell.run("kubectl get cxidrivers,cxidevices -o yaml")?;
    ensure!(drivers.contains(DRIVER) && !drivers.contains("finalizers") && !drivers.contains("CXIDevice"), "{drivers}");
    // Applying it again is what somebody does who begins at the top of the earlier README.
    plane.kubectl_with_input(&["apply", "-f", "-"], FIRST_STEPS)?;
    plane.kubectl_with_input(&["apply", "--validate=strict", "--dry-run=server", "-f", "-"], FIRST_STEPS)?;
    Ok(())
}

async fn its_images_are_replaced(harness: &Harness) -> Result<()> {
    let asked = async |h: &Harness| Ok(condition(h, "RetryHandlerReady").await?.as_deref() == Some("ImageRequired"));
    harness.wait_until("a condition asks for an image with a retry handler", LONG, asked).await?;
    let told = async |h: &Harness| {
        let events: Api<Event> = Api::namespaced(h.client.clone(), "default");
        let events = events.list(&ListParams::default()).await?.items;
        let notes = events.into_iter().filter(|event| event.reason.as_deref() == Some("ImageReplaced"));
        let notes: Vec<String> = notes.filter_map(|event| event.note).collect();
        let named = |image: &str| notes.iter().any(|note| note.contains(&format!("{EARLIER_IMAGES}{image}:latest")));
        Ok(["device-plugin", "metrics-exporter"].into_iter().all(named))
    };
    harness.wait_until("events name the images that were replaced", LONG, told).await?;
    for (role, image) in [("device-plugin", DEVICE_PLUGIN_IMAGE), ("metrics-exporter", AGENT_IMAGE)] {
        let pods = pods(harness, role).await?;
        let images = pods.iter().flat_map(|pod| pod.spec.iter().flat_map(|spec| &spec.containers));
        let images: BTreeSet<_> = images.filter_map(|container| container.image.as_deref()).collect();
        ensure!(pods.len() == 2 && images.iter().eq([&image]), "{role}: {images:?} on {} nodes", pods.len());
    }
    Ok(())
}

/// The columns as users see them: kubectl asks the API server for them.
async fn kubectl_shows_the_driver_and_the_nics(harness: &Harness) -> Result<()> {
    let drivers = block_in_place(|| table(&harness.plane, "cxidriver"))?;
    ensure!(drivers[0] == ["NAME", "VERSION", "TARGET", "UPDATED", "TOTAL", "INFLIGHT", "FAILED", "STATE", "AGE"]);
    ensure!(drivers[1][..7] == [DRIVER, "1.8.3", "1.8.3", "2", "2", "0", "0"], "{:?}", drivers[1]);

    let nics = || async { block_in_place(|| table(&harness.plane, "cxidevices")) };
    let served = || async {
        let rows = nics().await?;
        Ok((rows.len() == 5 && rows[1..].iter().all(|row| row.get(6).is_some_and(|cell| cell == "Healthy")))
            .then_some(rows))
    };
    let shown = || async { format!("{:#?}", nics().await) };
    let rows = wait_for("kubectl shows four healthy NICs", LONG, served, shown).await?;
    ensure!(rows[0] == ["NAME", "NODE", "DEVICE", "NUMA", "LINK", "SPEED", "HEALTH", "NID", "AGE"], "{:?}", rows[0]);
    ensure!(rows[1][..8] == ["n-01-cxi0", "n-01", "cxi0", "0", "up", "200", "Healthy", "416"], "{:?}", rows[1]);
    let names: Vec<&str> = rows[1..].iter().map(|row| row[0].as_str()).collect();
    ensure!(names == ["n-01-cxi0", "n-01-cxi1", "n-02-cxi0", "n-02-cxi1"], "{names:?}");
    Ok(())
}

/// While a device plugin is replaced, its node refuses pods that ask for a NIC.
async fn its_pods_are_the_latest(harness: &Harness) -> Result<()> {
    let settled = async |harness: &Harness| {
        let api: Api<DaemonSet> = Api::namespaced(harness.client.clone(), NAMESPACE);
        let all = api.list(&ListParams::default()).await?.items;
        let is_settled = |set: &DaemonSet| {
            let status = set.status.clone().unwrap_or_default();
            status.observed_generation == set.metadata.generation
                && status.desired_number_scheduled == 2
                && status.updated_number_scheduled == Some(2)
                && status.number_ready == 2
        };
        // That of the retry handler came last.
        Ok(all.iter().any(|set| set.name_any().contains("retry-handler")) && all.iter().all(is_settled))
    };
    harness.wait_until("every DaemonSet has its latest pods on both nodes", LONG, settled).await
}

/// The lines that `kubectl get` prints, in words.
fn table(plane: &ControlPlane, resource: &str) -> Result<Vec<Vec<String>>> {
    let text = plane.kubectl(&["get", resource])?;
    Ok(text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect())
}

async fn a_pod_gets_a_nic(harness: &Harness) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "hpc-app" },
        "spec": { "containers": [{
            "name": "app", "image": "registry.example/hpc-app:1", "resources": { "limits": { "hpe.com/cxi": 1 } },
        }] },
    });
    let pods: Api<Pod> = Api::namespaced(harness.client.clone(), JOBS);
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await.context("make the pod")?;
    let runs = async |_: &Harness| {
        let status = pods.get("hpc-app").await?.status.unwrap_or_default();
        Ok(status.phase.as_deref() == Some("Running"))
    };
    harness.wait_until("the pod runs", LONG, runs).await
}

async fn the_six_metrics_are_served(harness: &Harness) -> Result<()> {
    let on = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some("n-02");
    let pod = pods(harness, "metrics-exporter").await?.into_iter().find(on).context("no exporter on n-02")?;
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let scrape = ["scrape", "port", "path"].map(|key| annotations.get(&format!("prometheus.io/{key}")).cloned());
    ensure!(scrape == ["true", "9090", "/metrics"].map(|value| Some(value.to_owned())), "{scrape:?}");

    let log = harness.plane.logs().join("exporter.log");
    let exporter = Exporter::start(&pod, &harness.soft.files("n-02")?, &log)?;
    let nic = r#"node="n-02",device="cxi1",pci="0000:41:00.0",netdev="""#;
    let wanted = [
        format!("cxi_device_link_state{{{nic}}} 1"),
        format!("cxi_device_health_status{{{nic}}} 1"),
        format!("cxi_retry_total{{{nic}}} 7"),
        format!("cxi_retry_nack_total{{{nic}}} 5"),
        format!("cxi_retry_timeout_total{{{nic}}} 2"),
        r#"cxi_driver_loaded{node="n-02",module="cxi_ss1"} 1"#.to_owned(),
    ];
    let missing = || async {
        let page = block_in_place(|| metrics(exporter.address())).unwrap_or_else(|error| format!("{error:#}"));
        let missing = wanted.iter().find(|line| !page.lines().any(|other| other == line.as_str())).cloned();
        missing.map(|line| format!("{line} is not in\n{page}"))
    };
    let attempt = || async { Ok(missing().await.is_none().then_some(())) };
    let context = || async { format!("{}\n{}", missing().await.unwrap_or_default(), exporter.log_tail()) };
    wait_for("the six metrics are served", LONG, attempt, context).await?;
    exporter.stop()
}

/// Reason of a condition of the CXIDriver.
async fn condition(harness: &Harness, type_: &str) -> Result<Option<String>> {
    let status = harness.driver(DRIVER).await?.and_then(|driver| driver.status).unwrap_or_default();
    Ok(status.conditions.into_iter().find(|condition| condition.type_ == type_).map(|condition| condition.reason))
}

async fn pods(harness: &Harness, role: &str) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(harness.client.clone(), NAMESPACE);
    Ok(api.list(&ListParams::default().labels(&format!("cxi.hpe.com/role={role}"))).await?.items)
}
