//! Objects that the API server takes and Rust's types do not. Go's times go on for two days longer than jiff's; an account that may update one
//! pod may write such a time into its `managedFields`, and an agent into its report. Each is the business of its own object.

use std::{fs, thread::sleep, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use cxi_api::{
    CXINode,
    lenient::Lenient,
    names::{AGENT, ROLE_LABEL, Role},
};
use cxi_control_plane::{ControlPlane, NAMESPACE};
use cxi_e2e::{
    harness::Harness,
    jobs::{self, JobShape},
    rights::PROBE,
    scenario::{DRIVER, LONG, NEW, Scenario},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::agent_policy::cluster::with_token;

/// The last second that Go writes.
const BEYOND: &str = "9999-12-31T23:59:59Z";

/// Where the CRD has `spec.updateStrategy.drain.waitTimeout`.
const WAIT_TIMEOUT: &str = "spec/properties/updateStrategy/properties/drain/properties/waitTimeout";

/// A CXIDriver that no node is selected by.
const BROKEN: &str = "broken";

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_rust_cannot_read_stop_nothing_but_themselves() -> Result<()> {
    let mut scenario = Scenario::installed(3, |_| ()).await?;
    let harness = &scenario.harness;
    harness.jobs.pod("held", &JobShape::on("n-01")).await?;
    harness.jobs.protect("held", 0).await?;
    let runs = || async { Ok(!scenario.harness.jobs.running_on("held").await?.is_empty()) };
    scenario.until("the job runs", runs).await?;

    scenario.kill_operator()?;
    let harness = &scenario.harness;
    block_in_place(|| {
        let tenant = tenant(&harness.plane)?;
        manage_beyond(&harness.plane, &tenant, "pod/held")?;
        manage_beyond(&harness.plane, &tenant, "poddisruptionbudget/held")
    })?;
    let crds = [
        loosen(&harness.plane, "cxinodes.cxi.hpe.com", "status/properties/node/properties/observedAt")?,
        loosen(&harness.plane, "cxidrivers.cxi.hpe.com", WAIT_TIMEOUT)?,
    ];
    report_beyond(harness, "n-03").await?;
    break_driver(harness).await?;

    scenario.start_operator(&[])?;
    scenario.upgrade_to(NEW).await?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    ensure!(scenario.harness.jobs.living("held").await?.is_empty(), "the pod was not evicted");
    let logs = fs::read_to_string(scenario.harness.plane.logs().join("operator-2.log"))
        .context("the second operator's log")?;
    ensure!(
        logs.contains("the agent's report counts for nothing"),
        "the log does not say that the report counts for nothing:\n{logs}"
    );

    it_says_what_is_wrong(&scenario).await?;
    correct(&scenario.harness, crds).await?;
    scenario.harness.jobs.unprotect("held").await?;
    scenario.finish().await
}

/// An account that may edit what is in the namespace of jobs, and nothing else; returns what kubectl is told to act as it.
fn tenant(plane: &ControlPlane) -> Result<String> {
    let namespace = ["--namespace", jobs::NAMESPACE];
    plane.kubectl(&[&["create", "serviceaccount", "tenant"], &namespace[..]].concat())?;
    let account = format!("--serviceaccount={}:tenant", jobs::NAMESPACE);
    plane.kubectl(&[&["create", "rolebinding", "tenant", "--clusterrole=edit", &account], &namespace[..]].concat())?;
    Ok(format!("--as=system:serviceaccount:{}:tenant", jobs::NAMESPACE))
}

/// Replaces an object by one that was managed at a time that Rust cannot read.
fn manage_beyond(plane: &ControlPlane, tenant: &str, object: &str) -> Result<()> {
    let get = ["get", object, "--namespace", jobs::NAMESPACE, "-o", "json", "--show-managed-fields", tenant];
    // Others write the object too, its status above all; and rights take a moment.
    for _ in 0..20 {
        let Ok(text) = plane.kubectl(&get) else {
            sleep(Duration::from_millis(500));
            continue;
        };
        let mut changed: Value = serde_json::from_str(&text)?;
        let managed = changed["metadata"]["managedFields"].as_array_mut().context("it has no managedFields")?;
        for entry in managed {
            entry["time"] = json!(BEYOND);
        }
        changed["metadata"]["annotations"]["example.com/changed"] = json!("true");
        if plane.kubectl_with_input(&["replace", "-f", "-", tenant], &changed.to_string()).is_ok() {
            ensure!(plane.kubectl(&get)?.contains(BEYOND), "the API server did not keep the time of {object}");
            return Ok(());
        }
    }
    bail!("{object} cannot be replaced")
}

/// A report of the agent of a node, with its own token, at a time that Rust cannot read. The agent itself is away for a while.
async fn report_beyond(harness: &Harness, node: &str) -> Result<()> {
    let role = format!("{ROLE_LABEL}={}", Role::Agent.as_str());
    let field = format!("spec.nodeName={node}");
    let token = block_in_place(|| {
        let asked = ["get", "pods", "--namespace", NAMESPACE, "-l", &role, "--field-selector", &field, "-o", "name"];
        let pod = harness.plane.kubectl(&asked)?;
        let pod = pod.trim().trim_start_matches("pod/").to_owned();
        harness.soft.crash_pod(node, NAMESPACE, &pod, Duration::from_secs(20))?;
        let bound = ["--bound-object-kind", "Pod", "--bound-object-name", &pod];
        let token = ["create", "token", "cxi-agent", "--namespace", NAMESPACE];
        anyhow::Ok(harness.plane.kubectl(&[&token, &bound[..]].concat())?)
    })?;
    let agent = with_token(&harness.plane, &token, PROBE).await?;
    let report = json!({
        "apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "metadata": { "name": node },
        "status": { "node": { "kernel": "6", "bootID": "b", "observedAt": BEYOND, "sequence": 1 } },
    });
    let nodes: Api<Lenient<CXINode>> = Api::all(agent);
    let parameters = PatchParams::apply(AGENT).force();
    // The API server takes up another schema a moment later.
    let reported = async |_: &Harness| Ok(nodes.patch_status(node, &parameters, &Patch::Apply(&report)).await.is_ok());
    harness.wait_until("the agent's report is taken", LONG, reported).await
}

/// Takes the rules for a field out of a CRD, as one of another version of the operator may lack them; returns it as it was.
fn loosen(plane: &ControlPlane, crd: &str, field: &str) -> Result<Value> {
    let crd: Value = block_in_place(|| {
        let text = plane.kubectl(&["get", "crd", crd, "-o", "json"])?;
        anyhow::Ok(serde_json::from_str(&text)?)
    })?;
    let mut loose = crd.clone();
    let field = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{field}");
    let field = loose.pointer_mut(&field).and_then(Value::as_object_mut).context("the field is in the CRD")?;
    field.retain(|key, _| matches!(key.as_str(), "type" | "default" | "description"));
    block_in_place(|| replace(plane, loose))?;
    Ok(crd)
}

fn replace(plane: &ControlPlane, mut object: Value) -> Result<()> {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    plane.kubectl_with_input(&["replace", "-f", "-"], &object.to_string())?;
    Ok(())
}

/// A CXIDriver with a time that Rust refuses.
async fn break_driver(harness: &Harness) -> Result<()> {
    let mut spec = serde_json::to_value(Harness::spec(NEW))?;
    spec["nodeSelector"] = json!({ "example.com/no-node": "true" });
    spec["updateStrategy"]["drain"]["waitTimeout"] = json!("1000000h");
    let driver =
        json!({ "apiVersion": "cxi.hpe.com/v1", "kind": "CXIDriver", "metadata": { "name": BROKEN }, "spec": spec });
    // The API server takes up another schema a moment later.
    let created = async |harness: &Harness| {
        Ok(block_in_place(|| harness.plane.kubectl_with_input(&["create", "-f", "-"], &driver.to_string())).is_ok())
    };
    harness.wait_until("the CXIDriver is taken", LONG, created).await
}

/// The CXIDriver as it is stored.
fn stored(harness: &Harness) -> Result<Value> {
    let text = block_in_place(|| harness.plane.kubectl(&["get", "cxidriver", BROKEN, "-o", "json"]))?;
    Ok(serde_json::from_str(&text)?)
}

/// The condition of a CXIDriver that says why it is blocked, and what it says.
fn blocked(driver: &Value) -> Option<&str> {
    let conditions = driver["status"]["conditions"].as_array()?;
    let blocked = conditions.iter().find(|one| one["type"] == "Blocked" && one["status"] == "True")?;
    (blocked["reason"] == "Unreadable").then(|| blocked["message"].as_str()).flatten()
}

/// The CXIDriver itself tells, once.
async fn it_says_what_is_wrong(scenario: &Scenario) -> Result<()> {
    let says = || async {
        let driver = stored(&scenario.harness)?;
        let message = blocked(&driver);
        Ok(message
            .is_some_and(|text| text.contains("spec.updateStrategy.drain.waitTimeout") && text.contains("1000000h")))
    };
    scenario.until("the CXIDriver says that it cannot be read", says).await?;
    let version = stored(&scenario.harness)?["metadata"]["resourceVersion"].clone();
    let same = || async { Ok(stored(&scenario.harness)?["metadata"]["resourceVersion"] == version) };
    scenario.stays("it is said once", Duration::from_secs(3), same).await
}

/// An administrator corrects the CXIDriver, which is then like any other, and takes it away.
async fn correct(harness: &Harness, crds: [Value; 2]) -> Result<()> {
    harness
        .edit_driver(BROKEN, &json!({ "spec": { "updateStrategy": { "drain": { "waitTimeout": "24h" } } } }))
        .await?;
    let heard = async |harness: &Harness| {
        let driver = stored(harness)?;
        Ok(driver["status"]["observedGeneration"] == driver["metadata"]["generation"] && blocked(&driver).is_none())
    };
    harness.wait_until("the CXIDriver is like any other", LONG, heard).await?;
    harness.delete_driver(BROKEN).await?;
    let gone = async |harness: &Harness| Ok(harness.driver(BROKEN).await?.is_none());
    harness.wait_until("the CXIDriver is gone", LONG, gone).await?;
    block_in_place(|| crds.into_iter().try_for_each(|crd| replace(&harness.plane, crd)))?;
    ensure!(harness.driver(DRIVER).await?.is_some(), "the other CXIDriver is gone");
    Ok(())
}
