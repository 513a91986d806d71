//! The name of a revision: of the part of a CXIDriver that decides what is loaded. How a spec gets one is said where the spec is, in
//! `CXIDriverSpec::revision`.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of a revision: eight lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f]{8}$"))]
pub struct RevisionId([u8; LENGTH]);

/// How many digits a name has.
const LENGTH: usize = 8;

/// A text that is not a revision's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a revision; expected eight hexadecimal digits")]
pub struct InvalidRevision(String);

impl RevisionId {
    /// The name.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_else(|_| unreachable!("the digits of a revision are text"))
    }
}

impl fmt::Debug for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RevisionId").field(&self.as_str()).finish()
    }
}

impl From<u32> for RevisionId {
    /// The name of a number: its digits.
    fn from(number: u32) -> Self {
        let digit = |place| b"0123456789abcdef"[(number >> (4 * (LENGTH - 1 - place)) & 0xf) as usize];
        Self(std::array::from_fn(digit))
    }
}

impl FromStr for RevisionId {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let digits = text.as_bytes().try_into().ok().filter(|digits: &[u8; LENGTH]| digits.iter().copied().all(hex));
        digits.map(Self).ok_or_else(|| InvalidRevision(text.to_owned()))
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
        revision.as_str().to_owned()
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0123abcf", true)]
    #[case("0123ABCF", false)]
    #[case("0123abc", false)]
    #[case("0123abcfe", false)]
    #[case("0123abé", false)]
    fn a_name_has_eight_digits(#[case] text: &str, #[case] is: bool) {
        assert_eq!(text.parse::<RevisionId>().ok().map(String::from), is.then(|| text.to_owned()));
    }

    #[test]
    fn a_number_keeps_its_zeros() {
        let id = RevisionId::from(0x0012_abcf);
        assert_eq!((id.as_str(), format!("{id:?}")), ("0012abcf", "RevisionId(\"0012abcf\")".to_owned()));
    }
}
