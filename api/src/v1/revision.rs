//! The name of a revision: of the part of a CXIDriver that decides what is loaded. How a spec gets one is said where the spec is, in
//! `CXIDriverSpec::revision`.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u32> for RevisionId {
    /// The name of a number: its digits.
    fn from(number: u32) -> Self {
        Self(format!("{number:08x}"))
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
