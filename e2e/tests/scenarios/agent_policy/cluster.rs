//! Where agents live.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result};
use cxi_control_plane::{ControlPlane, NAMESPACE};
use cxi_e2e::planes::{Plane, Wanted};
use cxi_e2e::rights::PROBE;
use cxi_hardware::Root;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::task::block_in_place;

use super::{NODES, writes::cxi};

/// A control plane with three nodes with CXINodes, and an agent's pod on each.
pub async fn cluster() -> Result<Plane> {
    let plane = Plane::take(Wanted::ORDINARY).await?;
    block_in_place(|| nodes(&plane))?;
    Ok(plane)
}

fn nodes(plane: &ControlPlane) -> Result<()> {
    for node in NODES {
        plane.apply(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node } }).to_string())?;
        let mut record = cxi("CXINode", node);
        record["spec"] = json!({});
        plane.apply(&record.to_string())?;
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": format!("agent-{node}"), "namespace": NAMESPACE },
            "spec": {
                "nodeName": node,
                "serviceAccountName": "cxi-agent",
                "tolerations": [{ "operator": "Exists" }],
                "containers": [{ "name": "report", "image": "agent" }],
            },
        });
        plane.apply(&pod.to_string())?;
    }
    Ok(())
}

/// A client with a token of the agents' account, as the kubelet of `node` gets it for the agent's pod; without a node one that
/// is bound to nothing. It says that what it does is not done by a program of ours.
pub async fn agent(plane: &ControlPlane, node: Option<&str>) -> Result<Client> {
    program(plane, "cxi-agent", node, PROBE).await
}

/// A client with a token of an account, which calls itself `name`.
pub async fn program(plane: &ControlPlane, account: &str, node: Option<&str>, name: &str) -> Result<Client> {
    let mut arguments = vec!["create", "token", account, "--namespace", NAMESPACE];
    let pod = node.map(|node| format!("agent-{node}"));
    if let Some(pod) = &pod {
        arguments.extend(["--bound-object-kind", "Pod", "--bound-object-name", pod]);
    }
    with_token(plane, &plane.kubectl(&arguments)?, name).await
}

/// A client with a token of an agents' account in another namespace, with the rights of agents.
pub async fn agent_elsewhere(plane: &ControlPlane) -> Result<Client> {
    let namespace = "elsewhere";
    plane.kubectl(&["create", "namespace", namespace])?;
    plane.kubectl(&["create", "serviceaccount", "cxi-agent", "--namespace", namespace])?;
    let account = format!("--serviceaccount={namespace}:cxi-agent");
    plane.kubectl(&["create", "clusterrolebinding", namespace, "--clusterrole=cxi-agent", &account])?;
    let token = plane.kubectl(&["create", "token", "cxi-agent", "--namespace", namespace])?;
    with_token(plane, &token, PROBE).await
}

/// A client with a token, which calls itself `name`.
pub async fn with_token(plane: &ControlPlane, token: &str, name: &str) -> Result<Client> {
    let mut file = Kubeconfig::read_from(plane.kubeconfig())?;
    for user in &mut file.auth_infos {
        user.auth_info = Some(serde_json::from_value(json!({ "token": token.trim() }))?);
    }
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.headers.push(("user-agent".parse()?, name.parse()?));
    Ok(Client::try_from(config)?)
}

/// A node with one NIC, as a tree of files.
pub fn node_with_a_nic(tree: &Path) -> Result<Root> {
    let address = "0000:c1:00.0";
    let nic = format!("sys/devices/{address}");
    for (path, text) in [
        ("proc/sys/kernel/osrelease".to_owned(), "6.12.1\n"),
        ("proc/sys/kernel/random/boot_id".to_owned(), "0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c\n"),
        ("proc/modules".to_owned(), ""),
        ("dev/cxi3".to_owned(), ""),
        (format!("{nic}/vendor"), "0x1590\n"),
        (format!("{nic}/device"), "0x0371\n"),
        (format!("{nic}/properties/link"), "1\n"),
        (format!("{nic}/properties/nid"), "0x1a3\n"),
        (format!("{nic}/cxi/cxi3/uevent"), ""),
        ("sys/class/cxi/uevent".to_owned(), ""),
        ("sys/module/uevent".to_owned(), ""),
    ] {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().context("a file in the tree")?)?;
        fs::write(path, text)?;
    }
    fs::remove_file(tree.join("sys/class/cxi/uevent"))?;
    symlink(format!("../../../{address}"), tree.join(&nic).join("cxi/cxi3/device"))?;
    symlink(format!("../../devices/{address}/cxi/cxi3"), tree.join("sys/class/cxi/cxi3"))?;
    Ok(Root::new(tree.join("sys"), tree.join("dev")).with_proc(tree.join("proc")))
}
