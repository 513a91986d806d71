//! Writes for CXIPreflights: their status, their end, and what KMM is asked about for them.

use cxi_api::{CXIPreflightStatus, kmm::ModuleImagesConfig};

use crate::{
    act::{
        Error, Parts,
        patch::Guarded,
        request::{created_by_us, deleted, only},
    },
    endpoint::Endpoint,
    observe::{
        Snapshot,
        seen::{Images, Preflight, Reading},
    },
};

impl Parts {
    fn preflights(&self) -> Endpoint<Preflight> {
        Endpoint::all(&self.client)
    }

    /// Replaces the status, unless anything was written since it was seen.
    pub(super) async fn write_preflight(
        &self,
        name: &str,
        uid: &str,
        status: &CXIPreflightStatus,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        let object = seen.preflight(name).filter(|object| *object.id.uid == *uid);
        let object = object.ok_or_else(|| Error::stale("the CXIPreflight is gone"))?;
        let patch = Guarded::of(uid).unchanged(&object.id.version).add("/status", status);
        self.caches.preflights.wrote(patch.send_status(&self.preflights(), name).await?);
        Ok(())
    }

    /// Deletes a CXIPreflight.
    pub(super) async fn delete_preflight(&self, name: &str, uid: &str) -> Result<(), Error> {
        deleted(&self.caches.preflights, uid, self.preflights().delete(name, &only(uid)).await?);
        Ok(())
    }

    /// Asks KMM about images. The same question is never asked twice: its name is that of the CXIPreflight.
    pub(super) async fn ask_for_images(&self, question: &ModuleImagesConfig) -> Result<(), Error> {
        let endpoint: Endpoint<Images> = Endpoint::within(&self.client, &self.identity.namespace);
        let created: Reading<Images> = endpoint.create(&created_by_us(), question).await?;
        self.caches.images.wrote(created);
        Ok(())
    }
}
