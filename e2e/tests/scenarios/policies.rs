//! The admission policies for pods, on a real API server: pods are sent to it, and what comes back is read.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use cxi_control_plane::ControlPlane;
use cxi_e2e::{
    planes::{Plane, Wanted},
    scenario::LONG,
};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::page::{Page, Shell};

/// A control plane with both policies; a namespace that asks for sidecars, and one that does not.
async fn api_server() -> Result<Plane> {
    let plane = Plane::take(Wanted::ORDINARY).await?;
    block_in_place(|| namespaces(&plane))?;
    Ok(plane)
}

fn namespaces(plane: &ControlPlane) -> Result<()> {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/multus/policy.yaml");
    plane.kubectl(&["apply", "--server-side", "-f", &policy.display().to_string()])?;
    for (name, inject) in [("asks", "enabled"), ("asks-too", "true"), ("silent", "no")] {
        let labels = json!({ "slingshot.hpe.com/inject-sidecar": inject });
        let metadata = json!({ "name": name, "labels": labels });
        plane.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }).to_string())?;
        // The controller manager's part, which need not have got there yet.
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": name } });
        plane.apply(&account.to_string())?;
    }
    Ok(())
}

fn driver(plane: &ControlPlane, name: &str, spec: &Value, sidecar: Option<&Value>) -> Result<()> {
    let mut all = json!({ "version": "13.0.0", "source": { "type": "preinstalled" } });
    all.as_object_mut().context("an object")?.extend(spec.as_object().cloned().unwrap_or_default());
    let object =
        json!({ "apiVersion": "cxi.hpe.com/v1", "kind": "CXIDriver", "metadata": { "name": name }, "spec": all });
    plane.apply(&object.to_string())?;
    let status = json!({ "status": { "sidecar": sidecar } }).to_string();
    plane.kubectl(&["patch", "cxidriver", name, "--subresource=status", "--type=merge", "-p", &status])?;
    Ok(())
}

/// What the API server would make of a pod in `namespace`.
fn admitted(plane: &ControlPlane, namespace: &str, pod: &Value) -> Result<Value> {
    let file = plane.data_dir().join("pod.json");
    std::fs::write(&file, pod.to_string())?;
    let file = file.display().to_string();
    let text = plane.kubectl(&["create", "--dry-run=server", "-o", "json", "-n", namespace, "-f", &file])?;
    Ok(serde_json::from_str(&text)?)
}

/// Policies come into force a moment after they and their parameters were written.
fn eventually(plane: &ControlPlane, namespace: &str, pod: &Value, good: impl Fn(&Value) -> bool) -> Result<Value> {
    let begin = Instant::now();
    loop {
        let last = match admitted(plane, namespace, pod) {
            Ok(pod) if good(&pod) => return Ok(pod),
            Ok(pod) => serde_json::to_string_pretty(&pod)?,
            Err(error) => format!("{error:#}"),
        };
        if begin.elapsed() > LONG {
            bail!("the policy does not do what it should; last seen:\n{last}");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn pod(resource: &str, nics: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "job" },
        "spec": { "containers": [{ "name": "app", "image": "app:1", "resources": { "limits": { resource: nics.to_string() } } }] },
    })
}

fn first(pod: &Value) -> &Value {
    &pod["spec"]["initContainers"][0]
}

fn has_sidecar(pod: &Value) -> bool {
    pod.to_string().contains("cxi-retry-handler")
}

fn volumes(pod: &Value) -> Vec<&str> {
    pod["spec"]["volumes"].as_array().into_iter().flatten().filter_map(|volume| volume["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_ask_for_a_nic_get_a_retry_handler_where_their_namespace_asks_for_it() -> Result<()> {
    let mut plane = api_server().await?;
    block_in_place(|| sidecars(&plane))?;
    plane.give_back().await
}

fn sidecars(plane: &ControlPlane) -> Result<()> {
    let wanted = json!({ "retryHandler": { "mode": "sidecar" } });
    driver(plane, "cxi", &wanted, Some(&json!({ "agent": "agent:1" })))?;
    let job = pod("hpe.com/cxi", 1);

    let admitted_pod = eventually(plane, "asks", &job, has_sidecar)?;
    let sidecar = first(&admitted_pod);
    ensure!(sidecar["name"] == "cxi-retry-handler" && sidecar["restartPolicy"] == "Always", "{sidecar:#}");
    ensure!(sidecar["image"] == "agent:1" && sidecar["command"] == json!(["cxi-agent"]), "{sidecar:#}");
    ensure!(sidecar["securityContext"]["privileged"] == true, "{sidecar:#}");
    probed(sidecar, "cxi-agent")?;
    ensure!(volumes(&admitted_pod).contains(&"cxi-retry-handler-dev"), "{admitted_pod:#}");
    ensure!(admitted_pod["spec"]["initContainers"].as_array().is_some_and(|all| all.len() == 1), "{admitted_pod:#}");
    ensure!(has_sidecar(&admitted(plane, "asks-too", &job)?), "`true` is as good as `enabled`");

    ensure!(!has_sidecar(&admitted(plane, "silent", &job)?), "a namespace that does not ask");
    let other = pod("example.com/gpu", 1);
    ensure!(!has_sidecar(&admitted(plane, "asks", &other)?), "a pod without a NIC");
    let mut own = job.clone();
    own["spec"]["initContainers"] = json!([{ "name": "cxi-retry-handler", "image": "mine:1" }]);
    ensure!(first(&admitted(plane, "asks", &own)?)["image"] == "mine:1", "a pod that brings one");

    volumes_of_the_sidecar_are_its_own(plane, &job)?;

    // cxi_rh in an image of its own, in a pod that has init containers and volumes.
    let wanted = json!({
        "retryHandler": { "mode": "sidecar", "sidecar": { "resources": { "limits": { "memory": "64Mi" } } } },
        "devicePlugin": { "resourceName": "beta.hpe.com/cxi" },
    });
    driver(plane, "cxi", &wanted, Some(&json!({ "agent": "agent:1", "retryHandler": "cxi-rh:13" })))?;
    let mut job = pod("beta.hpe.com/cxi", 2);
    job["spec"]["initContainers"] = json!([{ "name": "before", "image": "app:1" }]);
    job["spec"]["volumes"] = json!([{ "name": "dev", "emptyDir": {} }]);
    let admitted_pod = eventually(plane, "asks", &job, |pod| first(pod)["name"] == "cxi-retry-handler-supervisor")?;
    let all = admitted_pod["spec"]["initContainers"].as_array().context("init containers")?;
    let names: Vec<&str> = all.iter().filter_map(|container| container["name"].as_str()).collect();
    ensure!(names == ["cxi-retry-handler-supervisor", "cxi-retry-handler", "before"], "{names:?}");
    ensure!(all[1]["image"] == "cxi-rh:13" && all[1]["command"] == json!(["/supervisor/cxi-agent"]), "{:#}", all[1]);
    ensure!(all[1]["resources"]["limits"]["memory"] == "64Mi", "{:#}", all[1]);
    probed(&all[1], "/supervisor/cxi-agent")?;
    let program = all[1]["volumeMounts"].as_array().into_iter().flatten().find(|m| m["mountPath"] == "/supervisor");
    ensure!(program.is_some_and(|mount| mount["readOnly"] == true), "{:#}", all[1]);
    ensure!(all[0].get("restartPolicy").is_none() && volumes(&admitted_pod).contains(&"dev"), "{admitted_pod:#}");

    // Another mode takes the sidecar from new pods.
    driver(plane, "cxi", &json!({ "retryHandler": { "mode": "daemonset" } }), None)?;
    let wanted = pod("hpe.com/cxi", 1);
    eventually(plane, "asks", &wanted, |pod| !has_sidecar(pod))?;
    Ok(())
}

/// A pod whose own container mounts what was added for the sidecar is refused, whatever the container is called.
fn volumes_of_the_sidecar_are_its_own(plane: &ControlPlane, job: &Value) -> Result<()> {
    let refused = |pod: &Value, what: &str| -> Result<()> {
        let begin = Instant::now();
        loop {
            let last = match admitted(plane, "asks", pod) {
                Err(error) if format!("{error:#}").contains("no other container may mount them") => return Ok(()),
                last => last,
            };
            ensure!(begin.elapsed() < LONG, "{what} is not refused: {last:?}");
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    let mount = |volume: &str| json!([{ "name": volume, "mountPath": "/x" }]);
    for volume in ["cxi-retry-handler-dev", "cxi-retry-handler-statistics"] {
        let mut pod = job.clone();
        pod["spec"]["containers"][0]["volumeMounts"] = mount(volume);
        refused(&pod, volume)?;
    }
    for name in ["before", "cxi-retry-handler-supervisor"] {
        let mut pod = job.clone();
        pod["spec"]["initContainers"] =
            json!([{ "name": name, "image": "app:1", "volumeMounts": mount("cxi-retry-handler-dev") }]);
        refused(&pod, name)?;
    }
    let mut own = job.clone();
    own["spec"]["volumes"] = json!([{ "name": "mine", "emptyDir": {} }]);
    own["spec"]["containers"][0]["volumeMounts"] = mount("mine");
    ensure!(has_sidecar(&admitted(plane, "asks", &own)?), "volumes of its own are its own affair");
    Ok(())
}

/// The pod's own containers wait for a retry handler on each NIC, for as long as it takes, and a failure is seen.
fn probed(sidecar: &Value, program: &str) -> Result<()> {
    for probe in ["startupProbe", "readinessProbe"] {
        ensure!(sidecar[probe]["exec"]["command"] == json!([program, "retry-handler", "ready"]), "{sidecar:#}");
    }
    ensure!(sidecar["startupProbe"]["failureThreshold"] == i32::MAX, "{sidecar:#}");
    ensure!(sidecar.get("livenessProbe").is_none(), "{sidecar:#}");
    Ok(())
}

/// An API server that starts without the CRD of a policy's parameters cannot evaluate it for any pod.
#[tokio::test(flavor = "multi_thread")]
async fn pods_are_created_after_the_crds_are_gone() -> Result<()> {
    // What was installed is taken away: nobody can have this control plane afterwards.
    let plane = api_server().await?;
    block_in_place(|| without_crds(&plane))
}

fn without_crds(plane: &ControlPlane) -> Result<()> {
    driver(plane, "cxi", &json!({}), None)?;
    let job = pod("hpe.com/cxi", 1);
    eventually(plane, "silent", &job, |pod| !pod["metadata"]["annotations"].is_null())?;
    plane.kubectl(&["delete", "cxidriver", "--all"])?;
    plane.kubectl(&["delete", "crd", "cxidrivers.cxi.hpe.com", "cxinodes.cxi.hpe.com", "cxidevices.cxi.hpe.com"])?;
    plane.restart_api_server(Duration::from_secs(2))?;

    // The one for sidecars refuses rather than leave them out, which also shows that the policies are at work again.
    let begin = Instant::now();
    loop {
        match admitted(plane, "asks", &job) {
            Err(error) if format!("{error:#}").contains("cxi-retry-handler-sidecar") => break,
            last if begin.elapsed() > LONG => bail!("not refused: {last:?}"),
            _ => std::thread::sleep(Duration::from_millis(300)),
        }
    }
    // kube-system and all others: pods of the cluster are no business of a policy that cannot be evaluated.
    for namespace in ["silent", "kube-system"] {
        for any in [&job, &pod("example.com/gpu", 1)] {
            admitted(plane, namespace, any).with_context(|| format!("a pod in {namespace}"))?;
        }
    }
    // Which is why docs/uninstall.md takes them away first.
    let blocks = Page::read("uninstall.md")?.section("With the drivers")?.blocks("sh");
    Shell::of(plane)?.run(blocks.get(1).context("the command for the policies")?)?;
    eventually(plane, "asks", &job, |_| true).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_as_many_networks_as_they_ask_for_nics() -> Result<()> {
    let mut plane = api_server().await?;
    block_in_place(|| networks_of_pods(&plane))?;
    plane.give_back().await
}

fn networks_of_pods(plane: &ControlPlane) -> Result<()> {
    const KEY: &str = "k8s.v1.cni.cncf.io/networks";
    driver(plane, "a", &json!({ "devicePlugin": { "resourceName": "beta.hpe.com/cxi" } }), None)?;
    driver(plane, "b", &json!({ "devicePlugin": { "resourceName": "hpe.com/cxi" } }), None)?;
    let networks = |pod: &Value| pod["metadata"]["annotations"][KEY].as_str().map(str::to_owned);
    let of = |nics: usize| (0..nics).map(|n| format!("default/hsn{n}@hsn{n}")).collect::<Vec<_>>().join(",");

    for (resource, nics) in [("beta.hpe.com/cxi", 4), ("hpe.com/cxi", 1), ("hpe.com/cxi", 2)] {
        let wanted = Some(of(nics));
        let asked = pod(resource, u32::try_from(nics)?);
        eventually(plane, "silent", &asked, |pod| networks(pod) == wanted)?;
    }
    let none = pod("example.com/gpu", 4);
    ensure!(networks(&admitted(plane, "silent", &none)?).is_none(), "a pod without a NIC");
    let mut two = pod("hpe.com/cxi", 1);
    let container = two["spec"]["containers"][0].clone();
    two["spec"]["containers"].as_array_mut().context("containers")?.push(container);
    two["spec"]["containers"][1]["name"] = json!("second");
    two["spec"]["initContainers"] = json!([container_of("large", 3)]);
    ensure!(networks(&admitted(plane, "silent", &two)?) == Some(of(3)), "the larger of what runs and what runs before");
    let mut own = pod("hpe.com/cxi", 4);
    own["metadata"]["annotations"] = json!({ KEY: "mine", "other": "kept" });
    ensure!(networks(&admitted(plane, "silent", &own)?).as_deref() == Some("mine"), "a pod that names its networks");
    own["metadata"]["annotations"] = json!({ "other": "kept" });
    let with_other = admitted(plane, "silent", &own)?;
    ensure!(networks(&with_other) == Some(of(4)) && with_other["metadata"]["annotations"]["other"] == "kept");
    Ok(())
}

fn container_of(name: &str, nics: u32) -> Value {
    json!({ "name": name, "image": "app:1", "resources": { "limits": { "hpe.com/cxi": nics.to_string() } } })
}
