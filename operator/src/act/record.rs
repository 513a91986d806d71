//! Writes to CXINodes: the node's place in the rollout.

use cxi_api::{
    CXINode, CXINodeSpec, NodeRollout,
    names::{MANAGED_BY_LABEL, OPERATOR},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::GetParams;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    act::{
        Error, Parts,
        patch::Guarded,
        request::{created_by_us, deleted, only},
    },
    endpoint::Endpoint,
    observe::{
        Snapshot,
        seen::{Object, Reading, Record},
    },
};

impl Parts {
    fn records(&self) -> Endpoint<Record> {
        Endpoint::all(&self.client)
    }

    /// Creates a node's CXINode, which goes when the Node goes.
    pub(super) async fn create_record(&self, node: &str, uid: &str) -> Result<(), Error> {
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        };
        let record = CXINode {
            metadata: ObjectMeta {
                name: Some(node.to_owned()),
                labels: Some([(MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned())].into()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: CXINodeSpec {},
            status: None,
        };
        let created = self.records().create(&created_by_us(), &record).await?;
        self.caches.records.wrote(created);
        Ok(())
    }

    /// Deletes a CXINode.
    pub(super) async fn delete_record(&self, node: &str, uid: &str) -> Result<(), Error> {
        deleted(&self.caches.records, uid, self.records().delete(node, &only(uid)).await?);
        Ok(())
    }

    /// Writes a node's place in the rollout, unless it is not `was` any more. The agent writes beside us to the same object,
    /// so it is this one value that is compared, not the object's version.
    pub(super) async fn write_rollout(
        &self,
        node: &str,
        uid: &str,
        was: Option<&NodeRollout>,
        now: &NodeRollout,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        let patch = match was {
            Some(was) => Guarded::of(uid).test("/status/rollout", was).add("/status/rollout", now),
            None => first(uid, now, seen.record(node).map(AsRef::as_ref))?,
        };
        let written = match (patch.send_status(&self.records(), node).await, was) {
            (Err(Error::Api(kube::Error::Api(status))), Some(was)) if status.code == 422 => {
                self.as_stored(node, uid, was, now).await?
            }
            (written, _) => written?,
        };
        self.caches.records.wrote(written);
        if was.is_none_or(|was| was.phase != now.phase) {
            self.metrics.phase_changed(was, now);
        }
        Ok(())
    }

    /// The same value may be stored in other words than we write it (a hand-edited status, fields of a newer version). Then
    /// what is stored is read, compared as a value, and tested literally.
    async fn as_stored(
        &self,
        node: &str,
        uid: &str,
        was: &NodeRollout,
        now: &NodeRollout,
    ) -> Result<Reading<Record>, Error> {
        let all = <CXINode as kube::Resource>::url_path(&(), None);
        let request = kube::core::Request::new(all).get(node, &GetParams::default());
        let text = self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
        let stored: Stored = serde_json::from_str(&text)?;
        let rollout = &stored.status.rollout;
        let same = serde_json::from_value::<NodeRollout>(rollout.clone()).is_ok_and(|stored| stored == *was);
        if !same {
            return Err(Error::stale("another client wrote the node's place in the rollout"));
        }
        let patch = Guarded::of(uid).test("/status/rollout", rollout).add("/status/rollout", now);
        patch.send_status(&self.records(), node).await
    }
}

/// What of a CXINode is compared literally.
#[derive(Deserialize)]
struct Stored {
    status: StoredStatus,
}

#[derive(Deserialize)]
struct StoredStatus {
    rollout: Value,
}

/// The patch that writes the first place of a node: only onto the version without one.
fn first(uid: &str, now: &NodeRollout, record: Option<&Object<Record>>) -> Result<Guarded, Error> {
    let object = record.ok_or_else(|| Error::stale("the CXINode is gone"))?;
    let record = object.readable().ok_or_else(|| Error::stale("the CXINode cannot be read"))?;
    if record.rollout != Ok(None) {
        return Err(Error::stale("the node has a place in the rollout"));
    }
    let patch = Guarded::of(uid).unchanged(&object.id.version);
    Ok(if record.has_status {
        patch.add("/status/rollout", now)
    } else {
        patch.add("/status", &json!({ "rollout": now }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::seen::read;
    use cxi_api::{Phase, Timestamp};

    fn rollout() -> NodeRollout {
        let since = Timestamp::from_second(1).unwrap();
        serde_json::from_value(json!({"driver": "d", "phase": Phase::Pending, "since": since})).unwrap()
    }

    fn record(status: &Value) -> Object<Record> {
        let text = json!({"metadata": {"name": "n", "uid": "u", "resourceVersion": "7"}, "spec": {}, "status": status});
        let reading = read(&text.to_string()).unwrap();
        Object { id: reading.id, content: reading.content.unwrap() }
    }

    #[test]
    fn the_first_place_is_written_onto_the_version_that_was_seen() {
        let guards = || Guarded::of("u").unchanged("7");
        let none = first("u", &rollout(), Some(&record(&Value::Null))).unwrap();
        assert_eq!(none, guards().add("/status", &json!({"rollout": rollout()})));
        let report =
            json!({"node": {"kernel": "6", "bootID": "b", "observedAt": "2026-01-01T00:00:00Z", "sequence": 1}});
        let reported = first("u", &rollout(), Some(&record(&report))).unwrap();
        assert_eq!(reported, guards().add("/status/rollout", &rollout()));
        let placed = record(&json!({"rollout": rollout()}));
        assert!(first("u", &rollout(), Some(&placed)).is_err());
        assert!(first("u", &rollout(), None).is_err());
    }
}
