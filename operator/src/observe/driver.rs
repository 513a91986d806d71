//! A CXIDriver as the engine sees it.

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::{
    CXIDriver, CXIDriverSpec,
    driver::own_image,
    driver_status::SidecarImages,
    names::{ORPHAN_ANNOTATION, RESUME_ANNOTATION, Role, TEARDOWN_FINALIZER, services_gate},
};
use cxi_rollout::world::Driver;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::ResourceExt;

use crate::{
    memory::{Applied, Remembered},
    observe::Snapshot,
    render::{self, HASH_ANNOTATION, Images, OPERANDS, RESOURCE_ANNOTATION, daemonset_name, operands},
};

/// The CXIDriver with the state of its operands.
pub fn driver(object: &CXIDriver, seen: &Snapshot, memory: &Remembered, images: &Images, namespace: &str) -> Driver {
    let name = object.name_any();
    let annotations = object.annotations();
    Driver {
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        created: object.metadata.creation_timestamp.as_ref().map(|time| time.0).unwrap_or_default(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        orphan: annotations.get(ORPHAN_ANNOTATION).is_some_and(|value| value == "true"),
        finalizer: object.finalizers().iter().any(|finalizer| finalizer == TEARDOWN_FINALIZER),
        resume: annotations.get(RESUME_ANNOTATION).cloned(),
        spec: object.spec.clone(),
        status: object.status.clone().unwrap_or_default(),
        operands_current: operands_current(object, seen, memory, images, namespace),
        pods_ready: pods_ready(&name, seen),
        injection: memory.injection,
        sidecar: object.spec.retry_handler.runs_in_pods().then(|| SidecarImages {
            agent: render::images::agent(&object.spec, images),
            retry_handler: own_image(object.spec.retry_handler.image.as_ref()).cloned(),
        }),
        name,
    }
}

/// By operand, what its DaemonSet says of its pods: `numberReady` counts nodes that should have a pod and have a ready one.
fn pods_ready(driver: &str, seen: &Snapshot) -> BTreeMap<Role, i32> {
    let ready = |role: &Role| {
        let daemonset = seen.daemonset(&daemonset_name(driver, *role)?)?;
        Some((*role, daemonset.status.as_ref()?.number_ready))
    };
    OPERANDS.iter().filter_map(ready).collect()
}

/// Whether no retry handler is wanted on nodes any more, but some node still has to have one.
pub fn retiring(driver: &str, spec: &CXIDriverSpec, seen: &Snapshot) -> bool {
    let gate = services_gate(driver);
    !spec.retry_handler.runs_on_nodes() && seen.nodes.iter().any(|node| node.labels().contains_key(&gate))
}

/// Whether each DaemonSet is there exactly when it should, as it was rendered, and unchanged since. After a restart nobody
/// knows whether one was changed; it is then applied once more.
fn operands_current(
    driver: &CXIDriver,
    seen: &Snapshot,
    memory: &Remembered,
    images: &Images,
    namespace: &str,
) -> bool {
    let name = driver.name_any();
    let wanted = operands(&name, &driver.spec, namespace, images, retiring(&name, &driver.spec, seen));
    wanted.iter().all(|(name, wanted)| match (wanted, seen.daemonset(name)) {
        (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(wanted), Some(found)) => {
            found.metadata.deletion_timestamp.is_none()
                && memory.applied.get(name) == Some(&applied(found))
                && applied_hash(wanted) == applied_hash(found)
        }
    })
}

/// The DaemonSet as it is to be remembered after it was applied.
pub fn applied(daemonset: &DaemonSet) -> Applied {
    Applied {
        uid: daemonset.uid().unwrap_or_default(),
        generation: daemonset.metadata.generation.unwrap_or_default(),
        hash: applied_hash(daemonset),
    }
}

/// Hash of the DaemonSet as rendered.
pub fn applied_hash(daemonset: &DaemonSet) -> String {
    daemonset.annotations().get(HASH_ANNOTATION).cloned().unwrap_or_default()
}

/// Every resource that a CXIDriver names, or that a device plugin of ours still offers under an earlier name.
pub fn resource_names(seen: &Snapshot) -> BTreeSet<String> {
    let wanted = seen.drivers.iter().map(|driver| driver.spec.device_plugin.resource_name.clone());
    let offered = seen.daemonsets.iter().filter_map(|ds| ds.annotations().get(RESOURCE_ANNOTATION).cloned());
    wanted.chain(offered).collect()
}
