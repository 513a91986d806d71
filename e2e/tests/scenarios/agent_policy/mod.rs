//! What a node agent may write and what not, asked of a real API server with the manifests that we ship: tokens bound to pods on
//! two nodes, each write that an agent needs, and each that it must not have.

pub mod cluster;
mod metadata;
mod missing;
mod writes;

use std::{fs, time::Duration};

use self::cluster::{agent, agent_elsewhere, cluster, node_with_a_nic, program};
use self::writes::{Write, api, cxi, device, device_status, phase_of, report_of};
use anyhow::{Context, Result, ensure};
use cxi_agent::{Expectation, report};
use cxi_api::Advertise;
use cxi_control_plane::NAMESPACE;
use cxi_device_plugin::offer::cxinode;
use cxi_e2e::{client::client, wait::wait_for};
use kube::{Client, api::ListParams};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_mins(1);

/// Two nodes, one whose name begins like that of another, and one whose name is too long for a label.
const NODES: [&str; 4] = ["n1", "n2", "n1-b", LONG];

const LONG: &str = "a-node-with-a-name-that-is-longer-than-what-fits-into-a-label.site.example";

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_speaks_for_its_own_node_only() -> Result<()> {
    let mut plane = cluster().await?;
    let admin = client(plane.kubeconfig()).await?;
    for node in NODES {
        Write::MergeStatus(phase_of(node, "UpToDate")).send(&admin).await.context("a phase to guard")?;
    }
    let [unbound, one, two] = [agent(&plane, None), agent(&plane, Some("n1")), agent(&plane, Some("n2"))];
    let (unbound, one, two, long) = tokio::try_join!(unbound, one, two, agent(&plane, Some(LONG)))?;
    policy_in_force(&unbound).await?;
    // Wherever the operator is installed.
    Write::Apply(device("n1-cxi0", "n1")).refused(&agent_elsewhere(&plane).await?, "names no node").await?;

    what_it_needs(&one, "n1").await?;
    what_it_needs(&two, "n2").await?;
    let before = others(&admin).await?;
    what_it_must_not(&one).await?;
    metadata::of_a_device(&admin, &one).await?;
    metadata::of_its_node(&admin, &one).await?;
    metadata::a_long_name(&long).await?;

    // Were it given more rights by mistake, the policy would still hold.
    plane.apply(&more_rights().to_string())?;
    plane.kubectl(&[
        "create",
        "clusterrolebinding",
        "more",
        "--clusterrole=more",
        &format!("--serviceaccount={NAMESPACE}:cxi-agent"),
    ])?;
    let wait = || async { Ok(Write::Merge(cxi("CXIDevice", "n1-cxi0")).send(&one).await.ok()) };
    wait_for("the rights are there", LIMIT, wait, || async { String::new() }).await?;
    metadata::put(&admin, &one).await?;
    with_more_rights(&one).await?;
    ensure!(before == others(&admin).await?, "what is not its own was changed");

    plane.kubectl(&["delete", "clusterrolebinding", "more"])?;
    let wait = || async { Ok(Write::Merge(cxi("CXINode", "n1")).refused(&one, "cannot patch").await.ok()) };
    wait_for("the rights are gone", LIMIT, wait, || async { String::new() }).await?;
    the_real_one_gets_along(&admin, program(&plane, "cxi-agent", Some("n1"), "cxi-agent").await?).await?;
    the_device_plugin_follows(&admin, program(&plane, "cxi-device-plugin", None, "cxi-device-plugin").await?).await?;
    plane.give_back().await
}

/// The API server takes a moment to put a policy into force; until then RBAC alone decides.
async fn policy_in_force(unbound: &Client) -> Result<()> {
    let refusal = || async {
        let write = Write::ApplyStatus(report_of("n1"));
        Ok(write.refused(unbound, "names no node").await.ok())
    };
    let context = || async { format!("{:?}", Write::ApplyStatus(report_of("n1")).send(unbound).await) };
    wait_for("a token without a node is refused", LIMIT, refusal, context).await?;
    Write::Apply(device("n1-cxi0", "n1")).refused(unbound, "names no node").await
}

async fn what_it_needs(agent: &Client, node: &str) -> Result<()> {
    let [first, second] = [format!("{node}-cxi0"), format!("{node}-cxi17")];
    Write::ApplyStatus(report_of(node)).works(agent).await?;
    Write::Apply(device(&first, node)).works(agent).await?;
    Write::ApplyStatus(device_status(&first, node)).works(agent).await?;
    Write::Apply(device(&second, node)).works(agent).await?;
    Write::Delete(device(&second, node)).works(agent).await
}

/// Everything that the agent of n1 has no business with.
async fn what_it_must_not(agent: &Client) -> Result<()> {
    let own_node_only = "the node agent of n1 reports about its own node only";
    Write::ApplyStatus(report_of("n2")).refused(agent, own_node_only).await?;
    Write::ApplyStatus(report_of("n1-b")).refused(agent, own_node_only).await?;

    let operators = "status.rollout is the operator's";
    Write::MergeStatus(phase_of("n1", "Unloading")).refused(agent, operators).await?;
    Write::ApplyStatus(phase_of("n1", "Unloading")).refused(agent, operators).await?;
    let mut nothing = cxi("CXINode", "n1");
    nothing["status"] = json!({ "rollout": null });
    Write::MergeStatus(nothing).refused(agent, operators).await?;

    let named = "writes CXIDevices named n1-cxi<number> only";
    Write::Apply(device("n2-cxi1", "n2")).refused(agent, named).await?;
    Write::Apply(device("n2-cxi1", "n1")).refused(agent, named).await?;
    Write::Apply(device("n1-b-cxi0", "n1")).refused(agent, named).await?;
    Write::Apply(device("n2-cxi0", "n1")).refused(agent, named).await?;
    Write::ApplyStatus(device_status("n2-cxi0", "n2")).refused(agent, named).await?;
    Write::Delete(device("n2-cxi0", "n2")).refused(agent, named).await?;
    Write::Apply(device("n1-cxi0", "n2")).refused(agent, "label cxi.hpe.com/node").await?;
    Write::Apply(device("n1-cxi5", "n2")).refused(agent, "label cxi.hpe.com/node").await?;
    Write::ApplyStatus(device_status("n1-cxi0", "n2")).refused(agent, "status.node of a CXIDevice").await?;

    let object = |kind: &str, name: &str| json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } });
    let mut node = object("Node", "n1");
    node["metadata"]["labels"] = json!({ "cxi.hpe.com/device-plugin.cassini": "0f51b7aa" });
    Write::Merge(node.clone()).refused(agent, "cannot patch resource \"nodes\"").await?;
    Write::MergeStatus(node).refused(agent, "cannot patch resource \"nodes/status\"").await?;
    let mut pod = object("Pod", "agent-n1");
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    Write::Merge(pod.clone()).refused(agent, "cannot patch resource \"pods\"").await?;
    Write::Delete(pod.clone()).refused(agent, "cannot delete resource \"pods\"").await?;
    Write::Evict(pod).refused(agent, "cannot create resource \"pods/eviction\"").await?;
    let mut event = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "e" } });
    event["metadata"]["namespace"] = json!(NAMESPACE);
    Write::Create(event).refused(agent, "cannot create resource \"events\"").await?;
    let mut secret = object("Secret", "s");
    secret["metadata"]["namespace"] = json!(NAMESPACE);
    Write::Read(secret.clone()).refused(agent, "cannot get resource \"secrets\"").await?;
    Write::Create(secret).refused(agent, "cannot create resource \"secrets\"").await?;
    Write::Merge(cxi("CXINode", "n1")).refused(agent, "cannot patch resource \"cxinodes\"").await?;
    Write::Delete(cxi("CXINode", "n1")).refused(agent, "cannot delete resource \"cxinodes\"").await?;
    Write::Delete(cxi("CXIDriver", "d")).refused(agent, "cannot delete resource \"cxidrivers\"").await?;
    Write::DeleteAll(cxi("CXIDevice", "")).refused(agent, "cannot deletecollection resource \"cxidevices\"").await
}

fn more_rights() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "more" },
        "rules": [{ "apiGroups": ["cxi.hpe.com"], "resources": ["*"], "verbs": ["*"] }],
    })
}

async fn with_more_rights(agent: &Client) -> Result<()> {
    let nothing_else = "the status of its CXINode, nothing else";
    let mut labelled = cxi("CXINode", "n1");
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    Write::Merge(labelled).refused(agent, nothing_else).await?;
    Write::Delete(cxi("CXINode", "n1")).refused(agent, nothing_else).await?;
    let mut another = cxi("CXINode", "n9");
    another["spec"] = json!({});
    Write::Apply(another).refused(agent, nothing_else).await?;
    let mut driver = cxi("CXIDriver", "d");
    driver["spec"] = json!({ "version": "13.0.0", "source": { "type": "preinstalled" } });
    Write::Apply(driver).refused(agent, nothing_else).await?;
    Write::DeleteAll(cxi("CXIDevice", "")).refused(agent, "writes CXIDevices named n1-cxi<number> only").await
}

/// Everything of ours but the `CXIDevices` of n1, as it is.
async fn others(admin: &Client) -> Result<Vec<(String, Option<String>)>> {
    let mut found = Vec::new();
    for kind in ["CXINode", "CXIDevice", "CXIDriver"] {
        let list = api(admin, &cxi(kind, "")).list(&ListParams::default()).await?;
        let names = list.items.into_iter().map(|one| (one.metadata.name.unwrap_or_default(), one.metadata.uid));
        found.extend(names.filter(|(name, _)| name != "n1-cxi0"));
    }
    let two = api(admin, &cxi("CXIDevice", "")).get("n2-cxi0").await?;
    found.push(("n2-cxi0".to_owned(), two.metadata.resource_version));
    Ok(found)
}

/// The agent itself, with the rights of its pod's token, on a node with one NIC.
async fn the_real_one_gets_along(admin: &Client, own: Client) -> Result<()> {
    let tree = tempfile::tempdir()?;
    let root = node_with_a_nic(tree.path())?;
    let (interval, heartbeat) = (Duration::from_millis(200), Duration::from_secs(20));
    let retry_handler = Expectation::Ignore;
    let config = report::Config {
        node: "n1".to_owned(),
        root,
        interval,
        heartbeat,
        retry_handler,
        kernel_log: report::KernelLog::Unread,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(report::run(config, own, stop.clone()));
    let devices = api(admin, &cxi("CXIDevice", ""));
    let nodes = api(admin, &cxi("CXINode", ""));
    let reported = || async {
        let device = devices.get_opt("n1-cxi3").await?;
        let node = nodes.get("n1").await?;
        let there = device.is_some_and(|device| device.data["status"]["nid"] == 419);
        Ok((there && node.data["status"]["node"]["devices"][0]["name"] == "cxi3").then_some(()))
    };
    wait_for("the agent reports", LIMIT, reported, || async { String::new() }).await?;
    fs::remove_file(tree.path().join("sys/class/cxi/cxi3"))?;
    let gone = || async { Ok(devices.get_opt("n1-cxi3").await?.is_none().then_some(())) };
    wait_for("the CXIDevice goes with its NIC", LIMIT, gone, || async { String::new() }).await?;
    stop.cancel();
    Ok(running.await??)
}

/// What a device plugin asks of the API server, with the rights of its account.
async fn the_device_plugin_follows(admin: &Client, own: Client) -> Result<()> {
    let (sender, mut advertised) = watch::channel(None);
    let following = tokio::spawn(cxinode::run(own, "n1".to_owned(), sender, watch::channel(None).0));
    for wanted in [Advertise::None, Advertise::All] {
        let mut node = phase_of("n1", "UpToDate");
        node["status"]["rollout"]["advertise"] = serde_json::to_value(wanted)?;
        Write::MergeStatus(node).send(admin).await?;
        timeout(LIMIT, advertised.wait_for(|now| *now == Some(wanted))).await.context("it follows")??;
    }
    drop(advertised);
    Ok(following.await?)
}
