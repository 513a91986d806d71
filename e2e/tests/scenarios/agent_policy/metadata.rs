//! What an agent may write into the metadata of its own objects. Names, finalizers and owners there bind more than its node.

use anyhow::{Result, ensure};
use cxi_api::device::{device_name, node_label_value};
use kube::Client;
use serde_json::{Value, json};

use super::{
    LONG,
    writes::{Write, api, cxi, device, device_status},
};

const NO_FINALIZER: &str = "adds no finalizer to a CXIDevice";
const OWN_NODE: &str = "belongs to the CXINode of its own node, here n1, and does not hold up its deletion";
const NAMED: &str = "writes CXIDevices named n1-cxi<number> only";

fn with_finalizer(name: &str, finalizer: &str) -> Value {
    let mut object = device(name, "n1");
    object["metadata"]["finalizers"] = json!([finalizer]);
    object
}

fn owner(kind: &str, name: &str) -> Value {
    let group = if kind == "Node" { "v1" } else { "cxi.hpe.com/v1" };
    json!({ "apiVersion": group, "kind": kind, "name": name, "uid": "u" })
}

fn owned(owner: &Value) -> Value {
    let mut object = device("n1-cxi0", "n1");
    object["metadata"]["ownerReferences"] = json!([owner]);
    object
}

/// `CXIDevices` of the agent's own node n1, in every form of a write that its rights allow.
pub async fn of_a_device(admin: &Client, agent: &Client) -> Result<()> {
    Write::Apply(with_finalizer("n1-cxi6", "example.com/stay")).refused(agent, NO_FINALIZER).await?;
    Write::Create(with_finalizer("n1-cxi6", "example.com/stay")).refused(agent, NO_FINALIZER).await?;
    Write::Apply(with_finalizer("n1-cxi0", "example.com/stay")).refused(agent, NO_FINALIZER).await?;
    Write::Merge(with_finalizer("n1-cxi0", "example.com/stay")).refused(agent, NO_FINALIZER).await?;
    let add = json!([{ "op": "add", "path": "/metadata/finalizers", "value": ["example.com/stay"] }]);
    Write::Json(cxi("CXIDevice", "n1-cxi0"), add).refused(agent, NO_FINALIZER).await?;

    // One of somebody else is none of its business, nor in its way.
    Write::Merge(with_finalizer("n1-cxi0", "example.com/admin")).send(admin).await?;
    Write::Apply(device("n1-cxi0", "n1")).works(agent).await?;
    Write::Merge(with_finalizer("n1-cxi0", "example.com/stay")).refused(agent, NO_FINALIZER).await?;
    let add = json!([{ "op": "add", "path": "/metadata/finalizers/-", "value": "example.com/stay" }]);
    Write::Json(cxi("CXIDevice", "n1-cxi0"), add).refused(agent, NO_FINALIZER).await?;
    let removal = json!([{ "op": "remove", "path": "/metadata/finalizers" }]);
    Write::Json(cxi("CXIDevice", "n1-cxi0"), removal).works(agent).await?;

    for wrong in [owner("CXINode", "n2"), owner("Node", "n1"), owner("CXIDevice", "n1"), owner("CXIDriver", "n1")] {
        Write::Apply(owned(&wrong)).refused(agent, OWN_NODE).await?;
        Write::Merge(owned(&wrong)).refused(agent, OWN_NODE).await?;
        let add = json!([{ "op": "add", "path": "/metadata/ownerReferences", "value": [wrong] }]);
        Write::Json(cxi("CXIDevice", "n1-cxi0"), add).refused(agent, OWN_NODE).await?;
    }
    let node = api(admin, &cxi("CXINode", "")).get("n1").await?;
    let mut right = owner("CXINode", "n1");
    right["uid"] = json!(node.metadata.uid);
    right["blockOwnerDeletion"] = json!(true);
    Write::Apply(owned(&right)).refused(agent, OWN_NODE).await?;
    right["blockOwnerDeletion"] = json!(false);
    Write::Apply(owned(&right)).works(agent).await?;

    for number in ["00", "01", "100000", "-1", "1a"] {
        Write::Apply(device(&format!("n1-cxi{number}"), "n1")).refused(agent, NAMED).await?;
    }
    Write::Apply(device("n1-cxi99999", "n1")).works(agent).await?;
    Write::Delete(device("n1-cxi99999", "n1")).works(agent).await
}

/// The status is all that it may write of its `CXINode`, and nothing else comes along with it.
pub async fn of_its_node(admin: &Client, agent: &Client) -> Result<()> {
    for kind in ["CXINode", "CXIDevice"] {
        let name = if kind == "CXINode" { "n1" } else { "n1-cxi0" };
        let mut object = cxi(kind, name);
        object["metadata"]["finalizers"] = json!(["example.com/stay"]);
        Write::MergeStatus(object).works(agent).await?;
        let found = api(admin, &cxi(kind, "")).get(name).await?;
        ensure!(found.metadata.finalizers.is_none(), "{kind}: {:?}", found.metadata);
    }
    let mut object = cxi("CXINode", "n1");
    object["metadata"]["finalizers"] = json!(["example.com/stay"]);
    Write::Apply(object.clone()).refused(agent, "cannot patch resource \"cxinodes\"").await?;
    Write::Merge(object).refused(agent, "cannot patch resource \"cxinodes\"").await?;
    let add = json!([{ "op": "add", "path": "/metadata/finalizers", "value": ["example.com/stay"] }]);
    Write::Json(cxi("CXINode", "n1"), add).refused(agent, "cannot patch resource \"cxinodes\"").await
}

/// A node whose name is too long for a label.
pub async fn a_long_name(agent: &Client) -> Result<()> {
    let name = device_name(LONG, "cxi0");
    let device = |label: &str| device(&name, label);
    Write::Apply(device(&node_label_value(LONG))).works(agent).await?;
    Write::ApplyStatus(device_status(&name, LONG)).works(agent).await?;
    for label in ["n1", &LONG[..52], &LONG[..63], &node_label_value(&format!("b{LONG}"))] {
        Write::Apply(device(label)).refused(agent, "label cxi.hpe.com/node").await?;
    }
    Write::Apply(super::device("n1-cxi0", "n1")).refused(agent, "writes CXIDevices named").await?;
    Write::Delete(device("")).works(agent).await
}

/// PUT, which takes rights that an agent does not have.
pub async fn put(admin: &Client, agent: &Client) -> Result<()> {
    let stored = api(admin, &cxi("CXIDevice", "")).get("n1-cxi0").await?;
    let stored = serde_json::to_value(stored)?;
    let mut object = stored.clone();
    object["metadata"]["finalizers"] = json!(["example.com/stay"]);
    Write::Replace(object).refused(agent, NO_FINALIZER).await?;
    let mut object = stored.clone();
    object["metadata"]["ownerReferences"] = json!([owner("CXINode", "n2")]);
    Write::Replace(object).refused(agent, OWN_NODE).await?;
    let mut object = stored.clone();
    object["metadata"]["labels"]["cxi.hpe.com/node"] = json!("n2");
    Write::Replace(object).refused(agent, "label cxi.hpe.com/node").await?;
    Write::Replace(stored).works(agent).await?;
    let node = serde_json::to_value(api(admin, &cxi("CXINode", "")).get("n1").await?)?;
    Write::Replace(node).refused(agent, "the status of its CXINode, nothing else").await
}
