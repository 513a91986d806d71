//! What KMM is given: the Module of a revision, and the Containerfile that it builds the revision's images by.

mod containerfile;
mod modprobe;
mod module;
mod question;

use cxi_api::{CXIDriverSpec, RevisionId};

pub use containerfile::containerfile;
pub use module::module;
pub use question::{image_for, question};

/// Whether a CXIDriver's spec still describes a revision; only then can its Module be made.
pub fn describes(driver: &str, spec: &CXIDriverSpec, revision: &RevisionId) -> bool {
    spec.revision(driver) == *revision
}
