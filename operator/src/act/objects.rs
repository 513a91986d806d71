//! Objects that the operator creates in its namespace. Names are deterministic, so what exists already is fine.

use cxi_api::{
    CXIDriverSpec, RevisionId,
    names::{Role, daemonset, module_name},
};
use cxi_manifests::{
    kmm,
    one_shot::{self, Cleanup, HostDriver, Prefetch, Validated},
};
use cxi_rollout::Action;
use kube::api::{Patch, PatchParams};

use crate::{
    act::{
        Error, Parts,
        request::{created_by_us, deleted, only},
    },
    endpoint::Endpoint,
    observe::{
        Identity, Snapshot, applied, operands_of,
        seen::{DaemonSet, Kind, Reading},
        wanted_operands,
    },
};

impl Parts {
    /// A kind in our namespace.
    fn ours<K: Kind>(&self) -> Endpoint<K> {
        Endpoint::within(&self.client, &self.identity.namespace)
    }

    /// Creates the Module of a revision.
    pub(super) async fn create_module(
        &self,
        driver: &str,
        revision: &RevisionId,
        spec: &CXIDriverSpec,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        debug_assert!(kmm::describes(driver, spec, revision), "a Module is named by what it loads");
        if let Some(known) = seen.module(&module_name(revision)).and_then(|module| module.unreadable()) {
            return Err(Error::stale(known));
        }
        let module = kmm::module(driver, spec, revision, &self.identity.namespace);
        let created = self.ours().create(&created_by_us(), &module).await;
        let created = created.map_err(|error| refusal("Module", module_name(revision), error));
        self.remember_refusal(revision, created.as_ref().err());
        self.caches.modules.wrote(created?);
        Ok(())
    }

    /// Creates the Containerfile of a revision. Its Module owns it, and takes it along.
    pub(super) async fn create_containerfile(
        &self,
        driver: &str,
        revision: &RevisionId,
        spec: &CXIDriverSpec,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        debug_assert!(kmm::describes(driver, spec, revision), "a Module is named by what it loads");
        let module = seen.module(&module_name(revision)).map(|module| &*module.id.uid);
        let module = module.ok_or_else(|| Error::stale("the Module is gone"))?;
        let layout = match spec.source.layout() {
            Some(reference) => self.layout(reference, &spec.version).await.map(Some),
            None => Ok(None),
        };
        self.remember_refusal(revision, layout.as_ref().err());
        let layout = layout?;
        let wanted = kmm::containerfile(driver, spec, revision, &self.identity.namespace, module, layout.as_ref());
        let wanted = wanted.ok_or_else(|| Error::stale("nothing is built any more"))?;
        let created = self.ours().create(&created_by_us(), &wanted).await;
        let created = created.map_err(|error| refusal("ConfigMap", module_name(revision), error))?;
        self.caches.containerfiles.wrote(created);
        Ok(())
    }

    /// Keeps why the Module of a revision, or what its images are built by, cannot be used, for those who ask why there is none.
    fn remember_refusal(&self, revision: &RevisionId, error: Option<&Error>) {
        self.memory.with(|memory| match error {
            Some(Error::Refused { why, .. } | Error::Layout(why)) => {
                memory.refused_modules.insert(revision.clone(), why.clone());
            }
            _ => drop(memory.refused_modules.remove(revision)),
        });
    }

    /// Deletes the Module of a revision.
    pub(super) async fn delete_module(&self, revision: &RevisionId, seen: &Snapshot) -> Result<(), Error> {
        let name = module_name(revision);
        let uid = seen.module(&name).map(|module| &*module.id.uid);
        let uid = uid.ok_or_else(|| Error::stale("the Module is gone"))?;
        deleted(&self.caches.modules, uid, self.ours().delete(&name, &only(uid)).await?);
        Ok(())
    }

    /// Creates, changes or deletes each of the operands' DaemonSets.
    pub(super) async fn apply_operands(
        &self,
        driver: &str,
        spec: &CXIDriverSpec,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        let parameters = PatchParams::apply(cxi_api::names::OPERATOR).force();
        let Identity { namespace, images, .. } = &self.identity;
        let faults = spec.device_plugin.faults();
        let mut first = Ok(());
        for (name, wanted) in wanted_operands(driver, spec, seen, images, namespace) {
            // One that is refused does not keep the others away.
            let result = match wanted {
                None => self.delete_daemonset(&name, seen).await,
                Some(_) if name == daemonset(Role::DevicePlugin, driver) && !faults.is_empty() => {
                    Err(Error::Unfit { name, faults: faults.clone() })
                }
                Some(wanted) => match self.ours().patch(&name, &parameters, &Patch::Apply(&wanted)).await {
                    Ok(written) => {
                        let written: Reading<DaemonSet> = written;
                        if let Some(object) = written.object() {
                            self.memory.with(|memory| memory.applied.insert(name, applied(&object, &wanted)));
                        }
                        self.caches.daemonsets.wrote(written);
                        Ok(())
                    }
                    Err(error) => Err(refusal("DaemonSet", name, error)),
                },
            };
            first = first.and(result);
        }
        first
    }

    /// Deletes the operands' DaemonSets.
    pub(super) async fn delete_operands(&self, driver: &str, seen: &Snapshot) -> Result<(), Error> {
        for operand in operands_of(driver, seen) {
            self.delete_daemonset(operand.id.name(), seen).await?;
        }
        Ok(())
    }

    async fn delete_daemonset(&self, name: &str, seen: &Snapshot) -> Result<(), Error> {
        let Some(uid) = seen.daemonset(name).map(|found| &*found.id.uid) else { return Ok(()) };
        // In the background: the pods are the garbage collector's to delete, which is also the default.
        deleted(&self.caches.daemonsets, uid, self.ours().delete(name, &only(uid)).await?);
        Ok(())
    }

    /// Starts a one-shot pod.
    pub(super) async fn start_pod(&self, action: &Action) -> Result<(), Error> {
        let namespace = &self.identity.namespace;
        let pod = match action {
            Action::StartPrefetch { node, uid, driver, spec, revision, image, old_image } => {
                let wanted = Prefetch { driver, node, node_uid: uid, revision, image, old_image: old_image.as_deref() };
                one_shot::prefetch(&wanted, spec, namespace)
            }
            Action::StartCleanup { node, uid, driver, spec, modules } => {
                let wanted = Cleanup { driver, node, node_uid: uid, modules };
                one_shot::cleanup(&wanted, spec, namespace, &self.identity.images)
            }
            Action::StartHostDriver { node, uid, driver, spec } => {
                let wanted = HostDriver { driver, node, node_uid: uid };
                one_shot::host_driver(&wanted, spec, namespace, &self.identity.images)
            }
            Action::StartValidation { node, uid, driver, revision, attempt, facts, validation, spec } => {
                let wanted = Validated {
                    driver,
                    node,
                    node_uid: uid,
                    revision,
                    attempt: *attempt,
                    version: &facts.version,
                    devices: &facts.devices,
                };
                one_shot::validation(&wanted, validation, spec, namespace)
            }
            _ => return Ok(()),
        };
        let created = self.ours().create(&created_by_us(), &pod).await?;
        self.caches.own_pods.wrote(created);
        Ok(())
    }

    /// Deletes a pod of ours.
    pub(super) async fn delete_own_pod(&self, name: &str, uid: &str) -> Result<(), Error> {
        deleted(&self.caches.own_pods, uid, self.ours().delete(name, &only(uid)).await?);
        Ok(())
    }
}

/// An answer that comes again until the CXIDriver is corrected: the object is not valid (400, 422), or a webhook does not let it in,
/// such as KMM's for Modules (403). It is no stale view.
fn refusal(kind: &'static str, name: String, error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
            Error::Refused { kind, name, why: status.message.clone() }
        }
        other => other.into(),
    }
}
