//! Writes to CXIDrivers: our finalizer and the status.

use std::sync::Arc;

use cxi_api::{CXIDriver, CXIDriverStatus, names::TEARDOWN_FINALIZER};
use kube::{Api, ResourceExt};

use crate::{
    act::{Error, Parts, patch::Guarded},
    observe::{Snapshot, operands_of},
};

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

pub(super) fn seen_driver<'a>(name: &str, seen: &'a Snapshot) -> Result<&'a Arc<CXIDriver>, Error> {
    seen.driver(name).ok_or_else(|| Error::stale("the CXIDriver is gone"))
}

fn guarded(driver: &CXIDriver) -> Guarded {
    let uid = driver.metadata.uid.as_deref().unwrap_or_default();
    Guarded::of(uid).unchanged(driver.metadata.resource_version.as_deref())
}
