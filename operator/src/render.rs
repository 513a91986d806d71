//! Builders of the objects that the operator creates. Pure: what they make depends on their arguments only.

mod device_plugin;
mod module;
mod one_shot;

use std::collections::BTreeMap;

use cxi_api::{
    CXIDriverSpec, RevisionId,
    names::{DRIVER_LABEL, MANAGED_BY_LABEL, OPERATOR, ROLE_LABEL, Role},
};
use sha2::{Digest, Sha256};

pub use device_plugin::{HASH_ANNOTATION, RESOURCE_ANNOTATION, device_plugin};
pub use module::{MODULE_LOADER, module};
pub use one_shot::{Cleanup, Prefetch, cleanup, prefetch};

/// The operator's own operand images, for CXIDrivers that name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// The device plugin.
    pub device_plugin: String,
    /// The node agent, which also takes out leftovers.
    pub agent: String,
}

/// Labels of everything that is made for a CXIDriver.
fn labels(driver: &str) -> BTreeMap<String, String> {
    [(MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned()), (DRIVER_LABEL.to_owned(), driver.to_owned())].into()
}

/// Labels of pods of ours.
fn pod_labels(driver: &str, role: Role) -> BTreeMap<String, String> {
    let mut labels = labels(driver);
    labels.insert(ROLE_LABEL.to_owned(), role.as_str().to_owned());
    labels
}

/// Ten hexadecimal digits that stand for `parts`.
fn short_hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    format!("{:x}", digest.finalize())[..10].to_owned()
}

/// Whether a CXIDriver's spec still describes a revision; only then can its Module be made.
pub fn describes(driver: &str, spec: &CXIDriverSpec, revision: &RevisionId) -> bool {
    RevisionId::of(driver, spec) == *revision
}

#[cfg(test)]
mod tests;
