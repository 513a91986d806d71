//! Objects that the operator creates in its namespace. Names are deterministic, so what exists already is fine.

use cxi_api::{CXIDriverSpec, RevisionId, kmm::Module, names::module_name};
use cxi_rollout::Action;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};

use crate::{
    act::{
        Error, Parts,
        driver::seen_driver,
        record::{created_by_us, only},
    },
    observe::{Identity, Snapshot, applied, operands_of, wanted_operands},
    render::{self, Cleanup, HostDriver, Prefetch},
};

impl Parts {
    fn modules(&self) -> Api<Module> {
        Api::namespaced(self.client.clone(), &self.identity.namespace)
    }

    fn containerfiles(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.identity.namespace)
    }

    fn daemonsets(&self) -> Api<DaemonSet> {
        Api::namespaced(self.client.clone(), &self.identity.namespace)
    }

    fn own_pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.identity.namespace)
    }

    /// Creates the Module of a revision.
    pub(super) async fn create_module(
        &self,
        driver: &str,
        revision: &RevisionId,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        let spec = described(driver, revision, seen)?;
        let module = render::module(driver, spec, revision, &self.identity.namespace);
        let created = self.modules().create(&created_by_us(), &module).await?;
        self.caches.modules.wrote(created);
        Ok(())
    }

    /// Creates the Containerfile of a revision. Its Module owns it, and takes it along.
    pub(super) async fn create_containerfile(
        &self,
        driver: &str,
        revision: &RevisionId,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        let spec = described(driver, revision, seen)?;
        let module = seen.module(&module_name(revision)).and_then(|module| module.metadata.uid.as_deref());
        let module = module.ok_or_else(|| Error::stale("the Module is gone"))?;
        let wanted = render::containerfile(driver, spec, revision, &self.identity.namespace, module);
        let wanted = wanted.ok_or_else(|| Error::stale("nothing is built any more"))?;
        let created = self.containerfiles().create(&created_by_us(), &wanted).await?;
        self.caches.containerfiles.wrote(created);
        Ok(())
    }

    /// Deletes the Module of a revision.
    pub(super) async fn delete_module(&self, revision: &RevisionId, seen: &Snapshot) -> Result<(), Error> {
        let name = module_name(revision);
        let uid = seen.module(&name).and_then(|module| module.metadata.uid.clone());
        let uid = uid.ok_or_else(|| Error::stale("the Module is gone"))?;
        let deleted = self.modules().delete(&name, &only(&uid)).await?;
        deleted.either(|object| self.caches.modules.wrote(object), |_| self.caches.modules.gone(&uid));
        Ok(())
    }

    /// Creates, changes or deletes each of the operands' DaemonSets.
    pub(super) async fn apply_operands(&self, driver: &str, seen: &Snapshot) -> Result<(), Error> {
        let spec = &seen_driver(driver, seen)?.spec;
        let parameters = PatchParams::apply(cxi_api::names::OPERATOR).force();
        let Identity { namespace, images, .. } = &self.identity;
        let mut first = Ok(());
        for (name, wanted) in wanted_operands(driver, spec, seen, images, namespace) {
            // One that is refused does not keep the others away.
            let result = match wanted {
                None => self.delete_daemonset(&name, seen).await,
                Some(wanted) => match self.daemonsets().patch(&name, &parameters, &Patch::Apply(&wanted)).await {
                    Ok(written) => {
                        self.memory.with(|memory| memory.applied.insert(name, applied(&written)));
                        self.caches.daemonsets.wrote(written);
                        Ok(())
                    }
                    Err(error) => Err(refusal(name, error)),
                },
            };
            first = first.and(result);
        }
        first
    }

    /// Deletes the operands' DaemonSets.
    pub(super) async fn delete_operands(&self, driver: &str, seen: &Snapshot) -> Result<(), Error> {
        for operand in operands_of(driver, seen) {
            self.delete_daemonset(&operand.name_any(), seen).await?;
        }
        Ok(())
    }

    async fn delete_daemonset(&self, name: &str, seen: &Snapshot) -> Result<(), Error> {
        let Some(uid) = seen.daemonset(name).and_then(|found| found.metadata.uid.clone()) else { return Ok(()) };
        // In the background: the pods are the garbage collector's to delete, which is also the default.
        let deleted = self.daemonsets().delete(name, &only(&uid)).await?;
        deleted.either(|object| self.caches.daemonsets.wrote(object), |_| self.caches.daemonsets.gone(&uid));
        Ok(())
    }

    /// Starts a one-shot pod.
    pub(super) async fn start_pod(&self, action: &Action, seen: &Snapshot) -> Result<(), Error> {
        let namespace = &self.identity.namespace;
        let pod = match action {
            Action::StartPrefetch { node, uid, driver, revision, image, old_image } => {
                let wanted = Prefetch { driver, node, node_uid: uid, revision, image, old_image: old_image.as_deref() };
                render::prefetch(&wanted, &seen_driver(driver, seen)?.spec, namespace)
            }
            Action::StartCleanup { node, uid, driver, modules } => {
                let wanted = Cleanup { driver, node, node_uid: uid, modules };
                render::cleanup(&wanted, &seen_driver(driver, seen)?.spec, namespace, &self.identity.images)
            }
            Action::StartHostDriver { node, uid, driver } => {
                let wanted = HostDriver { driver, node, node_uid: uid };
                render::host_driver(&wanted, &seen_driver(driver, seen)?.spec, namespace, &self.identity.images)
            }
            _ => return Ok(()),
        };
        let created = self.own_pods().create(&created_by_us(), &pod).await?;
        self.caches.own_pods.wrote(created);
        Ok(())
    }

    /// Deletes a pod of ours.
    pub(super) async fn delete_own_pod(&self, name: &str, uid: &str) -> Result<(), Error> {
        let deleted = self.own_pods().delete(name, &only(uid)).await?;
        deleted.either(|object| self.caches.own_pods.wrote(object), |_| self.caches.own_pods.gone(uid));
        Ok(())
    }
}

/// What the API server says of an operand: that it is not valid is no stale view, and comes again until the CXIDriver is mended.
fn refusal(name: String, error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) if status.code == 422 => Error::Refused { name, why: status.message.clone() },
        other => other.into(),
    }
}

/// The spec of a CXIDriver, if it still describes the revision that is to be made.
fn described<'a>(driver: &str, revision: &RevisionId, seen: &'a Snapshot) -> Result<&'a CXIDriverSpec, Error> {
    let spec = &seen_driver(driver, seen)?.spec;
    if render::describes(driver, spec, revision) {
        Ok(spec)
    } else {
        Err(Error::stale("the spec describes another revision"))
    }
}
