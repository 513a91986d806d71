//! A CXIDriver as the engine sees it.

use cxi_api::{
    CXIDriver,
    driver::own_image,
    driver_status::SidecarImages,
    names::{ORPHAN_ANNOTATION, RESUME_ANNOTATION, TEARDOWN_FINALIZER},
};
use cxi_rollout::world::Driver;
use kube::ResourceExt;

use crate::{
    memory::Remembered,
    observe::{
        Snapshot,
        operands::{operands_current, pods_outdated, pods_ready},
    },
    render::{self, Images},
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
        pods_outdated: pods_outdated(&name, seen),
        injection: memory.injection,
        sidecar: object.spec.retry_handler.runs_in_pods().then(|| SidecarImages {
            agent: render::images::agent(&object.spec, images),
            retry_handler: own_image(object.spec.retry_handler.image.as_ref()).cloned(),
        }),
        name,
    }
}
