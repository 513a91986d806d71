//! A CXIDriver as the engine sees it.

use cxi_api::{driver_status::SidecarImages, images::own_image, names::TEARDOWN_FINALIZER};
use cxi_manifests::images::{self, Images};
use cxi_rollout::world::{Driver, UnreadableDriver};

use crate::{
    Snapshot,
    operands::{offered_by, operands_current, pods_outdated, pods_ready},
    remembered::Remembered,
    seen::{self, Object},
};

/// The CXIDriver with the state of its operands; `None` when it cannot be read.
pub fn driver(
    object: &Object<seen::Driver>,
    seen: &Snapshot,
    memory: &Remembered,
    images: &Images,
    namespace: &str,
) -> Option<Driver> {
    let content = object.readable()?;
    let name = object.id.name();
    let current = operands_current(name, &content.spec, seen, memory, images, namespace);
    Some(Driver {
        name: name.to_owned(),
        uid: object.id.uid.to_string(),
        generation: content.generation,
        created: content.created,
        deleting: content.deleting,
        orphan: content.orphan.as_deref() == Some("true"),
        finalizer: content.finalizers.iter().any(|finalizer| **finalizer == *TEARDOWN_FINALIZER),
        resume: content.resume.as_deref().map(str::to_owned),
        offered: offered_by(name, seen),
        installation: content.installation.as_deref().map(str::to_owned),
        max_unselected: content.max_unselected.as_deref().and_then(|number| number.trim().parse().ok()),
        module_refused: memory.refused_modules.get(&content.spec.revision(name)).cloned(),
        spec: content.spec.clone(),
        status: content.status.as_ref().clone(),
        operands_current: current.all,
        plugin_current: current.plugin,
        pods_ready: pods_ready(name, seen),
        pods_outdated: pods_outdated(name, seen),
        injection: memory.injection,
        sidecar: content.spec.retry_handler.runs_in_pods().then(|| SidecarImages {
            agent: images::agent(&content.spec, images),
            retry_handler: own_image(content.spec.retry_handler.image.as_ref()).cloned(),
        }),
    })
}

/// The CXIDriver as one that cannot be read; `None` when it can.
pub fn unreadable(object: &Object<seen::Driver>) -> Option<UnreadableDriver> {
    let unreadable = object.content.as_ref().err()?;
    let said = unreadable.remains.said.as_deref();
    Some(UnreadableDriver {
        name: object.id.name().to_owned(),
        uid: object.id.uid.to_string(),
        why: unreadable.why.to_string(),
        told: said.is_some_and(|said| said.contains(&*unreadable.why)),
    })
}
