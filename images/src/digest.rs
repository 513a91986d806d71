//! Digests of images.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The digest of an image's manifest, as in `sha256:4f53…`: the name of exactly these bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no digest: it must be sha256: and 64 hexadecimal digits in lower case")]
pub struct DigestError(String);

/// Hexadecimal digits of SHA-256.
const DIGITS: usize = 64;

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() == DIGITS && hex.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DigestError(text.to_owned()))
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("")]
    #[case("sha256:")]
    #[case(&"a".repeat(64))]
    #[case(&format!("sha256:{}", "A".repeat(64)))]
    #[case(&format!("sha256:{}", "a".repeat(63)))]
    #[case(&format!("sha512:{}", "a".repeat(64)))]
    fn rejects(#[case] text: &str) {
        assert_eq!(text.parse::<Digest>(), Err(DigestError(text.to_owned())));
    }

    #[test]
    fn accepts_what_registries_say() {
        let text = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
    }
}
