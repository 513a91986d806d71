//! Writes to CXIDrivers: our finalizer and the status.

use cxi_api::{CXIDriverStatus, names::TEARDOWN_FINALIZER};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    act::{Error, Parts, patch::Guarded},
    endpoint::Endpoint,
    observe::{
        Snapshot, operands_of,
        seen::{Driver, Identity},
    },
};

/// Reason of the condition `Blocked` of a CXIDriver that cannot be read.
pub const UNREADABLE: &str = "Unreadable";

impl Parts {
    fn drivers(&self) -> Endpoint<Driver> {
        Endpoint::all(&self.client)
    }

    /// Puts our finalizer on.
    pub(super) async fn add_finalizer(&self, name: &str, seen: &Snapshot) -> Result<(), Error> {
        let (id, driver) = seen_driver(name, seen)?;
        let patch = guarded(id);
        let ours = TEARDOWN_FINALIZER;
        let patch = if driver.finalizers.is_empty() {
            patch.add("/metadata/finalizers", &[ours])
        } else {
            patch.add("/metadata/finalizers/-", &ours)
        };
        self.caches.drivers.wrote(patch.send(&self.drivers(), name).await?);
        Ok(())
    }

    /// Takes our finalizer off, unless the operands are still there: without it they would stay behind.
    pub(super) async fn remove_finalizer(&self, name: &str, seen: &Snapshot) -> Result<(), Error> {
        let (id, driver) = seen_driver(name, seen)?;
        if let Some(left) = operands_of(name, seen).next() {
            return Err(Error::stale(format!("DaemonSet {} is still there", left.id.name())));
        }
        let Some(index) = driver.finalizers.iter().position(|one| **one == *TEARDOWN_FINALIZER) else {
            return Ok(());
        };
        let place = format!("/metadata/finalizers/{index}");
        let patch = Guarded::of(&id.uid).test(&place, &TEARDOWN_FINALIZER).remove(&place);
        self.caches.drivers.wrote(patch.send(&self.drivers(), name).await?);
        Ok(())
    }

    /// Replaces the status, unless anything was written since it was seen: the ledger in it admits nodes.
    pub(super) async fn write_status(
        &self,
        name: &str,
        status: &CXIDriverStatus,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        let patch = guarded(seen_driver(name, seen)?.0).add("/status", status);
        self.caches.drivers.wrote(patch.send_status(&self.drivers(), name).await?);
        Ok(())
    }
}

impl Parts {
    /// Writes into the status of a CXIDriver that cannot be read that this is so. What is stored is taken as it is. The condition
    /// `Blocked`, the word for the state and the generation that they speak of change, and nothing else.
    pub(super) async fn say_unreadable(&self, name: &str, uid: &str, message: &str) -> Result<(), Error> {
        let stored = self.stored_driver(name).await?;
        let (status, generation) = (&stored.status, stored.metadata.generation);
        let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let before = conditions.iter().position(|condition| condition["type"] == "Blocked");
        let before = before.map(|index| conditions.remove(index)).unwrap_or_default();
        let since = if before["status"] == "True" { before["lastTransitionTime"].clone() } else { Value::Null };
        let since = if since.is_string() { since } else { json!(Time(self.clock.now())) };
        conditions.push(json!({
            "type": "Blocked",
            "status": "True",
            "reason": UNREADABLE,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": since,
        }));
        let patch = Guarded::of(uid).unchanged(&stored.metadata.resource_version);
        let patch = if status.is_object() {
            let seen = patch.add("/status/observedGeneration", &generation);
            seen.add("/status/conditions", &conditions).add("/status/state", &"Blocked")
        } else {
            let status = json!({ "observedGeneration": generation, "conditions": conditions, "state": "Blocked" });
            patch.add("/status", &status)
        };
        self.caches.drivers.wrote(patch.send_status(&self.drivers(), name).await?);
        Ok(())
    }

    /// A CXIDriver as it is stored, whatever it says.
    async fn stored_driver(&self, name: &str) -> Result<Stored, Error> {
        let path = <cxi_api::CXIDriver as kube::Resource>::url_path(&(), None);
        self.listed(path, name).await?.ok_or_else(|| Error::stale("the CXIDriver is gone"))
    }
}

/// The parts of a CXIDriver that are kept when it cannot be read.
#[derive(Deserialize)]
struct Stored {
    metadata: StoredMeta,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredMeta {
    generation: i64,
    resource_version: String,
}

/// The CXIDriver, if it can be read.
pub(super) fn seen_driver<'a>(name: &str, seen: &'a Snapshot) -> Result<(&'a Identity, &'a Driver), Error> {
    let object = seen.driver(name).ok_or_else(|| Error::stale("the CXIDriver is gone"))?;
    let content = object.readable().ok_or_else(|| Error::stale("the CXIDriver cannot be read"))?;
    Ok((&object.id, content))
}

fn guarded(id: &Identity) -> Guarded {
    Guarded::of(&id.uid).unchanged(&id.version)
}
