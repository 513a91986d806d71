//! Names for what is kept in the cache.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// 16 hexadecimal digits that change when any part changes.
pub(crate) fn short(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // The length keeps "ab","c" apart from "a","bc".
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        assert_eq!(short(&[b"ab", b"c"]).len(), 16);
        assert_eq!(short(&[b"ab", b"c"]), short(&[b"ab", b"c"]));
        assert_ne!(short(&[b"ab", b"c"]), short(&[b"a", b"bc"]));
    }
}
