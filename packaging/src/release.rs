//! Which images a release has.

use cxi_images::{Image, Lock};

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

/// Whether every image is pinned by digest, so that a mirror can be filled from the lock.
pub fn is_pinned(images: &Lock) -> bool {
    images.entries().all(|(_, entry)| entry.digest.is_some())
}
