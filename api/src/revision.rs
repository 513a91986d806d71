//! A revision: the part of a CXIDriver that decides what is loaded, named by its content hash.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::driver::CXIDriverSpec;

/// Name of a revision: eight lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f]{8}$"))]
pub struct RevisionId(String);

/// A text that is not a revision's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a revision; expected eight hexadecimal digits")]
pub struct InvalidRevision(String);

impl RevisionId {
    /// The revision of a driver's spec. Two drivers with equal specs have different revisions, because each revision is one
    /// KMM Module with its own selector. Fields that do not change what is loaded do not count.
    pub fn of(driver: &str, spec: &CXIDriverSpec) -> Self {
        let source = &spec.source;
        // Written out field by field: adding a field to the API must not silently rename every revision in the world.
        let content = serde_json::json!([
            driver,
            spec.version,
            source.kind,
            source.image,
            source.kernel_mappings,
            source.repository,
            source.dkms,
            source.prebuilt_cache,
            source.registry_tls,
            source.modprobe,
        ]);
        let digest = Sha256::digest(content.to_string());
        let [a, b, c, d, ..] = digest[..] else { unreachable!("a SHA-256 digest has 32 bytes") };
        Self(format!("{:08x}", u32::from_be_bytes([a, b, c, d])))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RevisionId {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 8 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRevision(text.to_owned()))
        }
    }
}

impl TryFrom<String> for RevisionId {
    type Error = InvalidRevision;

    fn try_from(text: String) -> Result<Self, InvalidRevision> {
        text.parse()
    }
}

impl From<RevisionId> for String {
    fn from(revision: RevisionId) -> Self {
        revision.0
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
