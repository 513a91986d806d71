//! Labels of what is made for a CXIDriver, and names made of hashes.

use std::collections::BTreeMap;

use cxi_api::names::{DRIVER_LABEL, MANAGED_BY_LABEL, OPERATOR, ROLE_LABEL, Role};
use sha2::{Digest as _, Sha256};

/// Labels of everything that is made for a CXIDriver.
pub fn labels(driver: &str) -> BTreeMap<String, String> {
    [(MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned()), (DRIVER_LABEL.to_owned(), driver.to_owned())].into()
}

/// Labels of pods of ours.
pub fn pod_labels(driver: &str, role: Role) -> BTreeMap<String, String> {
    let mut labels = labels(driver);
    labels.insert(ROLE_LABEL.to_owned(), role.as_str().to_owned());
    labels
}

/// Ten hexadecimal digits that stand for `parts`.
pub fn short_hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    format!("{:x}", digest.finalize())[..10].to_owned()
}
