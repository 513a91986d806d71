//! Writes to CXIDrivers: our finalizer and the status.

use std::sync::Arc;

use cxi_api::{CXIDriver, CXIDriverStatus, names::TEARDOWN_FINALIZER};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

use crate::{
    act::{Error, Parts, patch::Guarded},
    observe::{Snapshot, operands_of},
};

/// Reason of the condition `Blocked` of a CXIDriver that cannot be read.
pub const UNREADABLE: &str = "Unreadable";

impl Parts {
    fn drivers(&self) -> Api<CXIDriver> {
        Api::all(self.client.clone())
    }

    /// Puts our finalizer on.
    pub(super) async fn add_finalizer(&self, name: &str, seen: &Snapshot) -> Result<(), Error> {
        let driver = seen_driver(name, seen)?;
        let patch = guarded(driver);
        let ours = TEARDOWN_FINALIZER;
        let patch = if driver.finalizers().is_empty() {
            patch.add("/metadata/finalizers", &[ours])
        } else {
            patch.add("/metadata/finalizers/-", &ours)
        };
        self.caches.drivers.wrote(patch.send(&self.drivers(), name).await?);
        Ok(())
    }

    /// Takes our finalizer off, unless the operands are still there: nobody would delete them afterwards.
    pub(super) async fn remove_finalizer(&self, name: &str, seen: &Snapshot) -> Result<(), Error> {
        let driver = seen_driver(name, seen)?;
        if let Some(left) = operands_of(name, seen).next() {
            return Err(Error::stale(format!("DaemonSet {} is still there", left.name_any())));
        }
        let Some(index) = driver.finalizers().iter().position(|one| one == TEARDOWN_FINALIZER) else {
            return Ok(());
        };
        let place = format!("/metadata/finalizers/{index}");
        let uid = driver.metadata.uid.as_deref().unwrap_or_default();
        let patch = Guarded::of(uid).test(&place, &TEARDOWN_FINALIZER).remove(&place);
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
        let patch = guarded(seen_driver(name, seen)?).add("/status", status);
        self.caches.drivers.wrote(patch.send_status(&self.drivers(), name).await?);
        Ok(())
    }
}

impl Parts {
    /// Writes into the status of a CXIDriver that cannot be read that this is so. What is stored is taken as it is, and only the
    /// condition `Blocked` and the word for the state change.
    pub(super) async fn say_unreadable(&self, name: &str, uid: &str, message: &str) -> Result<(), Error> {
        let drivers: Api<DynamicObject> = Api::all_with(self.client.clone(), &ApiResource::erase::<CXIDriver>(&()));
        let stored = drivers.get(name).await?;
        let status = &stored.data["status"];
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
            "observedGeneration": stored.metadata.generation,
            "lastTransitionTime": since,
        }));
        let patch = Guarded::of(uid).unchanged(stored.metadata.resource_version.as_deref());
        let patch = if status.is_object() {
            patch.add("/status/conditions", &conditions).add("/status/state", &"Blocked")
        } else {
            patch.add("/status", &json!({ "conditions": conditions, "state": "Blocked" }))
        };
        patch.send_status(&drivers, name).await?;
        Ok(())
    }
}

pub(super) fn seen_driver<'a>(name: &str, seen: &'a Snapshot) -> Result<&'a Arc<CXIDriver>, Error> {
    seen.driver(name).ok_or_else(|| Error::stale("the CXIDriver is gone"))
}

fn guarded(driver: &CXIDriver) -> Guarded {
    let uid = driver.metadata.uid.as_deref().unwrap_or_default();
    Guarded::of(uid).unchanged(driver.metadata.resource_version.as_deref())
}
