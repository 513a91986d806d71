//! The container images of the product: which there are ([`Image`]), where they are published and which digests are
//! pinned ([`Lock`]), and what one that was built looks like ([`Archive`]).
//!
//! Manifests are generated from the lock, so that what is installed is what was built; `cargo xtask images` builds the
//! images and `cargo xtask mirror-list` lists them for sites without a way to the registry.

mod archive;
mod digest;
mod image;
mod lock;

pub use archive::{Archive, ArchiveError, File, MAX_BYTES};
pub use digest::{Digest, DigestError};
pub use image::Image;
pub use lock::{Entry, FILE, Lock, LockError};
