//! What is scraped are the pods that the operator makes, and the operator's own: selectors and ports of `deploy/monitoring` against
//! the objects that are rendered.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use cxi_api::CXIDriverSpec;
use cxi_manifests::{images::Images, operands::operands, operator};
use cxi_packaging::release::{named, unpublished};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

const NAMESPACE: &str = "cxi-operator";

fn documents(name: &str) -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring").join(name);
    Ok(serde_saphyr::from_multiple(&std::fs::read_to_string(path)?)?)
}

/// Pods of everything that runs, by name; the exporter with a port of its own.
fn pods() -> Result<Vec<(String, PodTemplateSpec)>> {
    let spec: CXIDriverSpec = serde_json::from_value(json!({
        "version": "13.0.0", "metricsExporter": { "port": 9999 },
        "retryHandler": { "mode": "daemonset", "image": "registry.example/cxi-rh:1" },
    }))?;
    let images = Images { device_plugin: "registry.example/p:1".into(), agent: "registry.example/a:1".into() };
    let mut pods = vec![(NAMESPACE.to_owned(), operator::pod_template(&named(&unpublished("1.2.3")?)))];
    let handlers = ["registry.example/cxi-rh:1".to_owned()].into();
    for (name, daemonset) in operands("cassini", &spec, NAMESPACE, &images, &handlers) {
        pods.push((name, daemonset.and_then(|d| d.spec).context("a DaemonSet")?.template));
    }
    ensure!(pods.len() == 5, "{pods:?}");
    Ok(pods)
}

/// Whether labels are among others.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|all| !all.is_empty() && all.iter().all(|(key, value)| labels[key] == *value))
}

/// Names of the pods that a selector finds, with the numbers of the ports that have a name.
fn found(selector: &Value, port: &Value) -> Result<Vec<(String, i32)>> {
    let mut found = Vec::new();
    for (name, pod) in pods()? {
        if selects(selector, &json!(pod.metadata.and_then(|metadata| metadata.labels))) {
            let containers = pod.spec.context("containers")?.containers;
            let mut ports = containers.into_iter().filter_map(|container| container.ports).flatten();
            let port =
                ports.find(|one| json!(one.name) == *port).with_context(|| format!("{name} has no such port"))?;
            found.push((name, port.container_port));
        }
    }
    Ok(found)
}

/// Names of what scrapes the exporter and the operator, and which pods and ports that are.
fn scraped() -> Vec<(String, Vec<(String, i32)>)> {
    [("cxi-metrics-exporter", "cxi-metrics-exporter-cassini", 9999), ("cxi-operator", NAMESPACE, operator::PORT)]
        .map(|(name, pod, port)| (name.to_owned(), vec![(pod.to_owned(), port)]))
        .into()
}

#[test]
fn pod_monitors_scrape_the_exporter_and_the_operator() -> Result<()> {
    let mut all = Vec::new();
    for monitor in documents("podmonitor.yaml")? {
        let [endpoint] = monitor["spec"]["podMetricsEndpoints"].as_array().map_or(&[][..], Vec::as_slice) else {
            anyhow::bail!("one endpoint: {monitor:#}");
        };
        let name = monitor["metadata"]["name"].as_str().context("a name")?;
        all.push((name.to_owned(), found(&monitor["spec"]["selector"]["matchLabels"], &endpoint["port"])?));
    }
    ensure!(all == scraped(), "{all:#?}");
    Ok(())
}

#[test]
fn service_monitors_scrape_the_same_by_services() -> Result<()> {
    let (services, monitors): (Vec<_>, Vec<_>) =
        documents("servicemonitor.yaml")?.into_iter().partition(|object| object["kind"] == "Service");
    let mut all = Vec::new();
    for monitor in &monitors {
        let selector = &monitor["spec"]["selector"]["matchLabels"];
        let selected: Vec<_> = services.iter().filter(|s| selects(selector, &s["metadata"]["labels"])).collect();
        let [service] = selected[..] else { anyhow::bail!("one Service: {selected:#?}") };
        // A Service with an address would answer for one pod at a time.
        ensure!(service["spec"]["clusterIP"] == "None", "{service:#}");
        let [port] = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice) else {
            anyhow::bail!("one port: {service:#}");
        };
        ensure!(monitor["spec"]["endpoints"][0]["port"] == port["name"], "{monitor:#}");
        // Jobs are called as the Service is; alerts ask for that name.
        ensure!(monitor["metadata"]["name"] == service["metadata"]["name"], "{service:#}");
        let name = monitor["metadata"]["name"].as_str().context("a name")?;
        all.push((name.to_owned(), found(&service["spec"]["selector"], &port["targetPort"])?));
    }
    ensure!(all == scraped() && services.len() == 2, "{all:#?}");
    Ok(())
}

/// A job is called as the Service, or by a `PodMonitor` as that in its namespace; queries are anchored. One that is asked for by
/// anything else never alerts, or for ever.
#[test]
fn alerts_ask_for_the_jobs_that_there_are() -> Result<()> {
    let alerts = documents("alerts.yaml")?.remove(0);
    let groups = alerts["spec"]["groups"].as_array().context("groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
    let mut asked = Vec::new();
    for query in rules.filter_map(|rule| rule["expr"].as_str()).filter(|query| query.contains("up{")) {
        let job = query.split_once("up{job=~\"(.+/)?").and_then(|(_, rest)| rest.split_once("\"}"));
        asked.push(job.with_context(|| format!("by its name: {query}"))?.0.to_owned());
    }
    let there: Vec<_> = scraped().into_iter().map(|(name, _)| name).collect();
    ensure!(asked == there, "{asked:?}");
    Ok(())
}

#[test]
fn a_selector_that_finds_nothing_or_too_much_is_noticed() -> Result<()> {
    ensure!(found(&json!({ "cxi.hpe.com/role": "exporter" }), &json!("metrics"))?.is_empty(), "a role that is none");
    let all = found(&json!({ "app.kubernetes.io/managed-by": "cxi-operator" }), &json!("metrics"));
    ensure!(all.is_err(), "pods without the port: {all:?}");
    ensure!(!selects(&json!({}), &json!({})), "an empty selector");
    Ok(())
}
