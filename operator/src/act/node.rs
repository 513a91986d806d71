//! Writes to Nodes: our labels, our taint, and KMM's version label, which loads and unloads drivers.

use cxi_rollout::{
    action::NodeChange,
    proof::{Quiesced, Unloaded},
    world::Taint,
};
use serde_json::json;

use crate::{
    act::{
        Error, Parts,
        patch::{Guarded, label_path},
    },
    endpoint::Endpoint,
    observe::{
        Snapshot,
        seen::{Identity, Node},
    },
};

impl Parts {
    /// Changes labels and our taint in one write.
    pub(super) async fn patch_node(
        &self,
        name: &str,
        uid: &str,
        changes: &[NodeChange],
        seen: &Snapshot,
    ) -> Result<(), Error> {
        let (id, node) = seen_node(name, uid, seen)?;
        self.send_to_node(name, changed(id, node, changes)?).await
    }

    /// Removes a version label: KMM unloads the driver. The whole node must be as it was seen: the same label may have gone
    /// and come again since.
    pub(super) async fn unload(
        &self,
        name: &str,
        uid: &str,
        (label, value): (&str, &str),
        proof: &Quiesced,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        if proof.node_uid() != uid {
            return Err(Error::stale("the proof is about another node"));
        }
        let path = label_path(label);
        let (id, _) = seen_node(name, uid, seen)?;
        self.send_to_node(name, Guarded::of(uid).unchanged(&id.version).test(&path, &value).remove(&path)).await
    }

    /// Sets a version label: KMM loads the driver.
    pub(super) async fn load(
        &self,
        name: &str,
        uid: &str,
        (label, value): (&str, &str),
        proof: &Unloaded,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        if proof.node_uid() != uid {
            return Err(Error::stale("the proof is about another node"));
        }
        let set = NodeChange::SetLabel { key: label.to_owned(), was: None, value: value.to_owned() };
        let (id, node) = seen_node(name, uid, seen)?;
        // No label of another Module has come since: the whole node is as it was seen.
        self.send_to_node(name, changed(id, node, &[set])?).await
    }

    async fn send_to_node(&self, name: &str, patch: Guarded) -> Result<(), Error> {
        let written = patch.send(&Endpoint::all(&self.client), name).await?;
        self.caches.nodes.wrote(written);
        Ok(())
    }
}

/// The Node, if it is still this one and can be read.
fn seen_node<'a>(name: &str, uid: &str, seen: &'a Snapshot) -> Result<(&'a Identity, &'a Node), Error> {
    let object = seen.node(name).filter(|node| *node.id.uid == *uid).ok_or_else(|| Error::stale("the node is gone"))?;
    let content = object.readable().ok_or_else(|| Error::stale("the Node cannot be read"))?;
    Ok((&object.id, content))
}

/// The patch for these changes. A `test` cannot say that something is absent, or that it has not come again; a patch that relies on that
/// applies only to the very version of the Node that was seen.
fn changed(id: &Identity, node: &Node, changes: &[NodeChange]) -> Result<Guarded, Error> {
    let mut patch = Guarded::of(&id.uid);
    if changes.iter().any(NodeChange::needs_unchanged_node) {
        patch = patch.unchanged(&id.version);
    }
    let labelled = changes.iter().any(|change| matches!(change, NodeChange::SetLabel { was: None, .. }));
    // The API server leaves out what is empty.
    if labelled && node.labels.is_empty() {
        patch = patch.add("/metadata/labels", &json!({}));
    }
    for change in changes {
        patch = apply(patch, node, change)?;
    }
    Ok(patch)
}

fn apply(patch: Guarded, node: &Node, change: &NodeChange) -> Result<Guarded, Error> {
    Ok(match change {
        NodeChange::SetLabel { key, was: Some(was), value } => {
            let place = label_path(key);
            patch.test(&place, was).add(&place, value)
        }
        NodeChange::SetLabel { key, was: None, value } => {
            if node.labels.get(key).is_some() {
                return Err(Error::stale(format!("the node has the label {key}")));
            }
            patch.add(&label_path(key), value)
        }
        NodeChange::RemoveLabel { key, was } => {
            let place = label_path(key);
            patch.test(&place, was).remove(&place)
        }
        NodeChange::AddTaint { was, taint } => {
            if *node.taints != **was {
                return Err(Error::stale("the taints changed"));
            }
            let taint = taint_json(taint);
            if was.is_empty() { patch.add("/spec/taints", &[taint]) } else { patch.add("/spec/taints/-", &taint) }
        }
        NodeChange::RemoveTaint { index, taint } => {
            let place = format!("/spec/taints/{index}");
            patch
                .test(&format!("{place}/key"), &taint.key)
                .test(&format!("{place}/effect"), &taint.effect)
                .remove(&place)
        }
    })
}

fn taint_json(taint: &Taint) -> serde_json::Value {
    let mut json = json!({ "key": taint.key, "effect": taint.effect });
    if !taint.value.is_empty() {
        json["value"] = json!(taint.value);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::seen::read;

    fn node(value: &serde_json::Value) -> (Identity, Node) {
        let reading = read::<Node>(&value.to_string()).unwrap();
        (reading.id, reading.content.unwrap().unwrap())
    }

    fn set(was: Option<&str>) -> NodeChange {
        NodeChange::SetLabel { key: "x/y".into(), was: was.map(str::to_owned), value: "2".into() }
    }

    #[test]
    fn absence_is_proved_by_the_version() {
        let (id, node) = node(&json!({"metadata": {"name": "n", "uid": "u", "resourceVersion": "7"}}));
        let expected =
            Guarded::of("u").unchanged("7").add("/metadata/labels", &json!({})).add("/metadata/labels/x~1y", &"2");
        assert_eq!(changed(&id, &node, &[set(None)]).unwrap(), expected);
    }

    #[test]
    fn a_known_value_is_tested() {
        let (id, node) = node(&json!({"metadata": {"name": "n", "uid": "u", "labels": {"x/y": "1"}}}));
        let path = "/metadata/labels/x~1y";
        let expected = Guarded::of("u").test(path, &"1").add(path, &"2");
        assert_eq!(changed(&id, &node, &[set(Some("1"))]).unwrap(), expected);
        assert!(matches!(changed(&id, &node, &[set(None)]), Err(Error::Stale(_))));
    }

    #[test]
    fn foreign_taints_stay() {
        let foreign = Taint { key: "a".into(), value: String::new(), effect: "NoSchedule".into() };
        let ours = Taint { key: "b".into(), value: String::new(), effect: "PreferNoSchedule".into() };
        let (id, node) = node(&json!({
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "7"},
            "spec": {"taints": [{"key": "a", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}]},
        }));
        let add = NodeChange::AddTaint { was: vec![foreign], taint: ours.clone() };
        let expected = Guarded::of("u").unchanged("7").add("/spec/taints/-", &taint_json(&ours));
        assert_eq!(changed(&id, &node, &[add]).unwrap(), expected);
        let stale = NodeChange::AddTaint { was: Vec::new(), taint: ours.clone() };
        assert!(changed(&id, &node, &[stale]).is_err());
        let remove = NodeChange::RemoveTaint { index: 1, taint: ours };
        let expected = Guarded::of("u")
            .test("/spec/taints/1/key", &"b")
            .test("/spec/taints/1/effect", &"PreferNoSchedule")
            .remove("/spec/taints/1");
        assert_eq!(changed(&id, &node, &[remove]).unwrap(), expected);
    }
}
