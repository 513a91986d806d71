//! The ways to install: `install.yaml`, kustomize and Helm give the same objects apart from labels. The real kustomize and Helm
//! are asked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use cxi_control_plane::{Family, Progress, Tool, Toolbox};
use serde_json::{Value, json};

const NAMESPACE: &str = "cxi-operator";

/// What Helm adds to labels and annotations.
const ADDED: [&str; 4] =
    ["app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart", "helm.sh/resource-policy"];

type Objects = BTreeMap<String, Value>;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn run(family: Family, tool: Tool, arguments: &[&str]) -> Result<String> {
    let toolbox = Toolbox::ensure(&[family], &Progress::stderr())?;
    let output = Command::new(toolbox.path(tool)?).current_dir(deploy()).args(arguments).output()?;
    if !output.status.success() {
        bail!("{} {arguments:?}: {}", tool.name(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn kustomized(directory: &str) -> Result<Objects> {
    objects(&run(Family::Kubernetes, Tool::Kubectl, &["kustomize", directory])?)
}

fn helm(arguments: &[&str]) -> Result<String> {
    let chart = ["template", "cxi-operator", "helm/cxi-operator", "--namespace", NAMESPACE];
    run(Family::Helm, Tool::Helm, &[&chart, arguments].concat())
}

fn helmed(arguments: &[&str]) -> Result<Objects> {
    objects(&helm(arguments)?)
}

fn installed() -> Result<Objects> {
    objects(&std::fs::read_to_string(deploy().join("install.yaml"))?)
}

/// The documents of a text by kind, namespace and name.
fn objects(text: &str) -> Result<Objects> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("cannot read the YAML")?;
    let mut objects = Objects::new();
    for mut object in documents.into_iter().filter(|document| !document.is_null()) {
        // kubectl's kustomize does not know that these kinds have no namespace; API servers pass it over.
        if object["kind"].as_str().is_some_and(|kind| kind.contains("AdmissionPolicy")) {
            object["metadata"].as_object_mut().context("metadata")?.remove("namespace");
        }
        let part = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = format!("{} {}/{}", part("/kind"), part("/metadata/namespace"), part("/metadata/name"));
        for kind in ["labels", "annotations"] {
            let entries = object["metadata"][kind].as_object_mut();
            let left = entries.map(|entries| {
                entries.retain(|key, _| !ADDED.contains(&key.as_str()));
                entries.len()
            });
            if left == Some(0) {
                object["metadata"].as_object_mut().context("metadata")?.remove(kind);
            }
        }
        // A null that Helm takes from a template is no difference.
        if object["metadata"]["annotations"].is_null() {
            object["metadata"].as_object_mut().context("metadata")?.remove("annotations");
        }
        if object["metadata"]["labels"].is_null() {
            object["metadata"].as_object_mut().context("metadata")?.remove("labels");
        }
        ensure!(objects.insert(key.clone(), object).is_none(), "{key} is there twice");
    }
    Ok(objects)
}

/// Says which objects differ, and where.
fn same(one: &Objects, other: &Objects) -> Result<()> {
    let only = |a: &Objects, b: &Objects| a.keys().filter(|key| !b.contains_key(*key)).cloned().collect::<Vec<_>>();
    ensure!(
        only(one, other).is_empty() && only(other, one).is_empty(),
        "only in one: {:?} / {:?}",
        only(one, other),
        only(other, one)
    );
    for (key, object) in one {
        ensure!(*object == other[key], "{key} differs:\n{object:#}\n{:#}", other[key]);
    }
    Ok(())
}

fn changed(mut objects: Objects, change: impl Fn(&str, &mut Value)) -> Objects {
    for (key, object) in &mut objects {
        change(key, object);
    }
    objects
}

#[test]
fn kustomize_gives_the_objects_of_install_yaml() -> Result<()> {
    same(&kustomized("kustomize/overlays/default")?, &installed()?)
}

#[test]
fn helm_gives_the_objects_of_install_yaml() -> Result<()> {
    same(&helmed(&["--set", "namespace.create=true"])?, &installed()?)?;
    let mut without_namespace = installed()?;
    without_namespace.remove("Namespace /cxi-operator").context("the namespace")?;
    same(&helmed(&[])?, &without_namespace)
}

#[test]
fn a_difference_is_found() -> Result<()> {
    let more = changed(installed()?, |key, object| {
        if key.starts_with("Deployment") {
            object["spec"]["replicas"] = json!(3);
        }
    });
    ensure!(same(&more, &installed()?).is_err(), "a changed field");
    let mut fewer = installed()?;
    fewer.pop_last();
    ensure!(same(&fewer, &installed()?).is_err() && same(&installed()?, &fewer).is_err(), "a missing object");
    Ok(())
}

#[test]
fn openshift_adds_rights_and_a_label_of_the_namespace() -> Result<()> {
    let mut openshift = kustomized("kustomize/overlays/openshift")?;
    let labels = &mut openshift.get_mut("Namespace /cxi-operator").context("namespace")?["metadata"]["labels"];
    let label = labels.as_object_mut().and_then(|l| l.remove("security.openshift.io/scc.podSecurityLabelSync"));
    ensure!(label == Some(json!("false")), "{labels}");
    let mut expected = installed()?;
    expected.extend(objects(&std::fs::read_to_string(deploy().join("rbac/openshift.yaml"))?)?);
    same(&openshift, &expected)?;
    same(&helmed(&["--set", "openshift=true,namespace.create=true"])?, &expected)?;
    same(&helmed(&["--set", "namespace.create=true", "--api-versions", "security.openshift.io/v1"])?, &expected)
}

#[test]
fn a_mirror_serves_all_images_and_gets_its_credentials() -> Result<()> {
    let mirror = "registry.example.com/mirror";
    let expected = changed(installed()?, |key, object| {
        if key.starts_with("ServiceAccount") {
            object["imagePullSecrets"] = json!([{ "name": "cxi-mirror" }]);
        }
        if key.starts_with("Deployment") {
            *object = serde_json::from_str(&object.to_string().replace("\"ghcr.io/", &format!("\"{mirror}/")))
                .expect("JSON stays JSON");
        }
    });
    same(&kustomized("kustomize/overlays/airgap")?, &expected)?;
    let values = format!("registry={mirror},imagePullSecrets[0].name=cxi-mirror,namespace.create=true");
    same(&helmed(&["--set", &values])?, &expected)
}

#[test]
fn another_namespace_is_named_everywhere() -> Result<()> {
    let text = run(
        Family::Helm,
        Tool::Helm,
        &["template", "r", "helm/cxi-operator", "--namespace", "elsewhere", "--set", "namespace.create=true"],
    )?;
    let copy = tempfile::tempdir()?;
    let source = deploy();
    let status = Command::new("cp").arg("-r").arg(&source).arg(copy.path()).status()?;
    ensure!(status.success(), "cannot copy {}", source.display());
    let overlay = copy.path().join("deploy/kustomize/overlays/default");
    let file = overlay.join("kustomization.yaml");
    std::fs::write(
        &file,
        std::fs::read_to_string(&file)?.replace("\nnamespace: cxi-operator", "\nnamespace: elsewhere"),
    )?;
    let overlay = overlay.display().to_string();
    let kustomized = run(Family::Kubernetes, Tool::Kubectl, &["kustomize", &overlay])?;

    same(&objects(&text)?, &objects(&kustomized)?)?;
    same(&objects(&text)?, &on_top_of("default")?)?;
    for (key, object) in objects(&text)? {
        let said = object.to_string();
        ensure!(!said.contains("serviceaccount:cxi-operator"), "{key}: {said}");
        let namespaces = object["subjects"].as_array().into_iter().flatten().map(|subject| &subject["namespace"]);
        ensure!(namespaces.into_iter().all(|namespace| namespace == "elsewhere"), "{key}: {said}");
    }
    Ok(())
}

/// What a site makes that puts an overlay of its own, with a namespace of its own, on top of one of ours.
fn on_top_of(ours: &str) -> Result<Objects> {
    let copy = tempfile::tempdir()?;
    let status = Command::new("cp").arg("-r").arg(deploy()).arg(copy.path()).status()?;
    ensure!(status.success(), "cannot copy {}", deploy().display());
    let overlay = copy.path().join("site");
    std::fs::create_dir(&overlay)?;
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [format!("../deploy/kustomize/overlays/{ours}")],
        "namespace": "elsewhere",
    });
    std::fs::write(overlay.join("kustomization.yaml"), kustomization.to_string())?;
    objects(&run(Family::Kubernetes, Tool::Kubectl, &["kustomize", &overlay.display().to_string()])?)
}

#[test]
fn an_overlay_on_top_may_set_another_namespace() -> Result<()> {
    for ours in ["default", "openshift", "airgap"] {
        for (key, object) in on_top_of(ours)? {
            let said = object.to_string();
            ensure!(!said.contains(r#""namespace":"cxi-operator""#), "{ours}: {key}: {said}");
            ensure!(!said.contains("serviceaccount:cxi-operator"), "{ours}: {key}: {said}");
        }
    }
    Ok(())
}

#[test]
fn the_chart_passes_lint() -> Result<()> {
    run(Family::Helm, Tool::Helm, &["lint", "--strict", "helm/cxi-operator"]).map(drop)
}

/// As Helm charts are combined: a parent switches this chart on and off by a value of its own.
#[test]
fn the_chart_may_be_a_dependency_with_a_condition() -> Result<()> {
    let parent = tempfile::tempdir()?;
    let chart = "apiVersion: v2\nname: site\nversion: 1.0.0\ndependencies:\n- name: cxi-operator\n  version: '*'\n  \
                 condition: cxi-operator.enabled\n";
    std::fs::write(parent.path().join("Chart.yaml"), chart)?;
    std::fs::create_dir(parent.path().join("charts"))?;
    std::os::unix::fs::symlink(
        deploy().join("helm/cxi-operator").canonicalize()?,
        parent.path().join("charts/cxi-operator"),
    )?;
    let path = parent.path().to_str().context("the directory's name")?;
    let template = |enabled: bool| {
        let value = format!("cxi-operator.enabled={enabled}");
        let arguments = ["template", "site", path, "--namespace", NAMESPACE, "--set", &value];
        objects(&run(Family::Helm, Tool::Helm, &arguments)?)
    };
    ensure!(!template(true)?.is_empty(), "the chart is not rendered");
    ensure!(template(false)?.is_empty(), "the chart is rendered although it is switched off");
    Ok(())
}

#[test]
fn values_reach_the_objects() -> Result<()> {
    let digest = format!("sha256:{}", "0f".repeat(32));
    let values = [
        "replicas=3,priorityClassName=mine,podLabels.a=b,podAnnotations.c=d,nodeSelector.e=f,extraArgs[0]=--log-format=text",
        "extraEnv[0].name=RUST_LOG,extraEnv[0].value=debug,resources.limits.memory=2Gi,crds.keep=false",
        "agent.image.registry=r.example,agent.image.tag=v9",
        &format!("image.digest={digest}"),
        "networkPolicy.apiServerPorts={8443},networkPolicy.metricsFrom[0].podSelector.matchLabels.x=y",
        "podDisruptionBudget.enabled=false,sidecarPolicy.enabled=true",
    ];
    let arguments: Vec<_> = values.iter().flat_map(|value| ["--set", value]).collect();
    let text = helm(&arguments)?;
    ensure!(!text.contains("helm.sh/resource-policy"), "crds.keep=false");
    let objects = objects(&text)?;
    let deployment = &objects["Deployment cxi-operator/cxi-operator"]["spec"];
    let pod = &deployment["template"];
    let container = &pod["spec"]["containers"][0];
    ensure!(deployment["replicas"] == 3 && pod["spec"]["priorityClassName"] == "mine", "{deployment:#}");
    ensure!(pod["metadata"]["labels"]["a"] == "b" && pod["metadata"]["annotations"]["c"] == "d", "{pod:#}");
    ensure!(pod["spec"]["nodeSelector"] == json!({ "e": "f" }), "{pod:#}");
    ensure!(container["args"] == json!(["--log-format=text"]), "{container:#}");
    ensure!(container["resources"]["limits"]["memory"] == "2Gi", "{container:#}");
    ensure!(container["image"] == format!("ghcr.io/cxi-operator/cxi-operator@{digest}"), "{container:#}");
    let variable = |name: &str| {
        container["env"].as_array().into_iter().flatten().find(|v| v["name"] == name).map(|v| v["value"].clone())
    };
    ensure!(variable("RUST_LOG") == Some(json!("debug")), "{container:#}");
    ensure!(variable("RELATED_IMAGE_AGENT") == Some(json!("r.example/cxi-operator/cxi-agent:v9")), "{container:#}");
    let policy = &objects["NetworkPolicy cxi-operator/cxi-operator"]["spec"];
    ensure!(policy["egress"][0]["ports"] == json!([{ "port": 8443, "protocol": "TCP" }]), "{policy:#}");
    ensure!(policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"]["x"] == "y", "{policy:#}");
    let exporter = &objects["NetworkPolicy cxi-operator/cxi-metrics-exporter"]["spec"];
    ensure!(exporter["ingress"][0]["from"] == policy["ingress"][0]["from"], "{exporter:#}");
    ensure!(exporter["ingress"][0]["ports"][0]["port"] == "metrics" && exporter["egress"].is_null(), "{exporter:#}");
    ensure!(!objects.keys().any(|key| key.starts_with("PodDisruptionBudget")), "podDisruptionBudget.enabled=false");
    ensure!(objects.contains_key("MutatingAdmissionPolicy /cxi-retry-handler-sidecar"), "{:?}", objects.keys());
    Ok(())
}

/// What the chart has for the Prometheus operator and Grafana.
fn monitoring(values: &str) -> Result<Objects> {
    let mut with = helmed(&["--set", values])?;
    for key in installed()?.keys() {
        with.remove(key);
    }
    Ok(with)
}

#[test]
fn monitoring_is_that_of_deploy_monitoring() -> Result<()> {
    ensure!(monitoring("replicas=1")?.is_empty(), "there is monitoring that nobody asked for");
    let pods =
        "monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true";
    let trimmed = |objects: Objects| {
        changed(objects, |key, object| {
            if key.starts_with("ConfigMap") {
                object["metadata"]["labels"] = Value::Null;
                let text = object["data"]["cxi.json"].as_str().map(|text| text.trim_end().to_owned());
                object["data"]["cxi.json"] = json!(text);
            }
        })
    };
    same(&trimmed(monitoring(pods)?), &trimmed(kustomized("monitoring")?))?;
    let services = objects(&std::fs::read_to_string(deploy().join("monitoring/servicemonitor.yaml"))?)?;
    same(&monitoring("monitoring.serviceMonitor.enabled=true")?, &services)
}

#[test]
fn values_reach_what_is_scraped() -> Result<()> {
    for (kind, endpoints) in [("podMonitor", "podMetricsEndpoints"), ("serviceMonitor", "endpoints")] {
        let values =
            ["enabled=true", "interval=1m", "scrapeTimeout=50s"].map(|value| format!("monitoring.{kind}.{value}"));
        let objects = monitoring(&format!("{},monitoring.labels.release=prometheus", values.join(",")))?;
        let monitors: Vec<_> = objects.values().filter(|object| object["kind"] != "Service").collect();
        ensure!(monitors.len() == 2, "{kind}: {monitors:#?}");
        for monitor in monitors {
            let endpoint = &monitor["spec"][endpoints][0];
            ensure!(endpoint["interval"] == "1m" && endpoint["scrapeTimeout"] == "50s", "{monitor:#}");
            ensure!(monitor["metadata"]["labels"]["release"] == "prometheus", "{monitor:#}");
        }
    }
    Ok(())
}

#[test]
fn nonsense_in_values_is_refused_by_name() -> Result<()> {
    for (value, said) in [
        ("replicas=-1", "replicas"),
        ("replcas=2", "replcas"),
        ("image.digest=latest", "digest"),
        ("image.repository=ghcr.io/x:1", "repository"),
        ("registry=r.example/", "registry"),
        ("extraArgs[0]=log", "extraArgs"),
        ("openshift=perhaps", "openshift"),
        ("networkPolicy.apiServerPorts={0}", "apiServerPorts"),
        ("monitoring.podMonitor.interval=often", "interval"),
        ("monitoring.serviceMonitor.scrapeTimeout=10", "scrapeTimeout"),
        ("monitoring.podMonitor.enabled=true,monitoring.serviceMonitor.enabled=true", "enable one of them"),
        ("kmm.required=true", "Kernel Module Management is not installed"),
    ] {
        let refusal = helm(&["--set", value]).err().with_context(|| format!("{value} was accepted"))?;
        ensure!(refusal.to_string().contains(said), "{value}: {refusal}");
    }
    helm(&["--set", "kmm.required=true", "--api-versions", "kmm.sigs.x-k8s.io/v1beta1"]).map(drop)
}
