//! Which images a release has.

use cxi_images::{Image, Lock};
use cxi_manifests::operator;

/// `images.lock` of this release.
const LOCK: &str = include_str!("../../images.lock");

/// The images of a release that is not published: those of this release under another tag, without digests.
///
/// # Errors
/// When `images.lock` cannot be understood.
pub fn unpublished(version: &str) -> Result<Lock, serde_json::Error> {
    let mut lock: Lock = serde_json::from_str(LOCK)?;
    for image in Image::ALL {
        let entry = lock.entry_mut(image);
        version.clone_into(&mut entry.version);
        entry.digest = None;
    }
    Ok(lock)
}

/// The images of a release as the operator's Deployment names them.
pub fn named(images: &Lock) -> operator::Images {
    let of_operands = images.entries().filter_map(|(image, entry)| Some((image.variable()?, entry.reference())));
    operator::Images { operator: images.entry(Image::Operator).reference(), operands: of_operands.collect() }
}

/// Whether every image is pinned by digest, so that a mirror can be filled from the lock.
pub fn is_pinned(images: &Lock) -> bool {
    images.entries().all(|(_, entry)| entry.digest.is_some())
}
