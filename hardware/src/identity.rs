//! What a NIC is called elsewhere: fabric address, MAC address, firmware versions, boot and kernel.

use std::fmt;

use crate::{
    AttributeError, AttributeErrorKind, Root,
    attribute::{self, decimal, text},
};

/// Address of a network interface, printed as the kernel does: six lower-case bytes with colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

/// Which kernel runs, and since which boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// `uname -r`.
    pub kernel: String,
    /// Differs after each boot.
    pub boot_id: String,
}

impl Boot {
    /// Reads `/proc/sys/kernel/osrelease` and `/proc/sys/kernel/random/boot_id`.
    ///
    /// # Errors
    /// When either is missing or not what the kernel writes.
    pub fn read(root: &Root) -> Result<Self, AttributeError> {
        let kernel = root.proc().join("sys/kernel");
        Ok(Self {
            kernel: attribute::read(&kernel.join("osrelease"), word)?,
            boot_id: attribute::read(&kernel.join("random/boot_id"), uuid)?,
        })
    }
}

/// `properties/nid`: the address in the fabric, printed `0x%x` (`cass_sysfs.c`). `None` while the NIC has none: since release 14 the
/// driver says `0xffffffff` after each load (`cass_core.c`), until the address is set. A physical function's has 20 bits; newer
/// drivers number a virtual function in the bits above.
pub(crate) fn nid(bytes: &[u8]) -> Result<Option<u32>, AttributeErrorKind> {
    let text = text(bytes)?;
    text.strip_prefix("0x")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .map(|nid| Some(nid).filter(|nid| *nid != u32::MAX))
        .ok_or_else(|| AttributeErrorKind::invalid(text, "0x and a number of at most 32 bits"))
}

/// `properties/pct_eq`: number of the event queue that a retry handler has asked for; 0 is none
/// (`C_EQ_NONE` in `cassini_user_defs.h`).
pub(crate) fn retry_handler(bytes: &[u8]) -> Result<bool, AttributeErrorKind> {
    number(bytes).map(|queue| queue != 0)
}

/// A decimal number.
pub(crate) fn number(bytes: &[u8]) -> Result<u32, AttributeErrorKind> {
    let text = text(bytes)?;
    decimal(text).ok_or_else(|| AttributeErrorKind::invalid(text, "a number"))
}

/// `address` of a network interface.
pub(crate) fn mac(bytes: &[u8]) -> Result<MacAddress, AttributeErrorKind> {
    let text = text(bytes)?;
    let parse = || {
        let mut address = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut address {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        let address = MacAddress(address);
        (address.to_string() == text).then_some(address)
    };
    parse().ok_or_else(|| AttributeErrorKind::invalid(text, "an address of the form 02:00:00:00:00:01"))
}

/// One printable word of at most 64 characters: versions and releases.
pub(crate) fn word(bytes: &[u8]) -> Result<String, AttributeErrorKind> {
    const LONGEST: usize = 64;
    let text = text(bytes)?;
    if text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(AttributeErrorKind::invalid(text, "one printable word"))
    }
}

/// A UUID in lower case.
fn uuid(bytes: &[u8]) -> Result<String, AttributeErrorKind> {
    let text = text(bytes)?;
    if is_uuid(text) { Ok(text.to_owned()) } else { Err(AttributeErrorKind::invalid(text, "a UUID in lower case")) }
}

/// Whether this is a UUID as the kernel and Kubernetes print it: lower-case hexadecimal, 8-4-4-4-12.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0x0\n", Some(0))]
    #[case("0x1f", Some(0x1f))]
    #[case("0xfffff", Some(0xf_ffff))]
    #[case("0x10001f", Some(0x10_001f))]
    #[case("0xfffffffe", Some(u32::MAX - 1))]
    #[case("0xffffffff\n", None)]
    #[case("0xFFFFFFFF", None)]
    fn accepts_nid(#[case] text: &str, #[case] expected: Option<u32>) {
        assert_eq!(nid(text.as_bytes()), Ok(expected));
    }

    #[rstest]
    #[case("0x100000000")]
    #[case("-1")]
    #[case("31")]
    #[case("0x")]
    #[case("0x+1")]
    fn rejects_nid(#[case] text: &str) {
        assert!(matches!(nid(text.as_bytes()), Err(AttributeErrorKind::Invalid { .. })));
    }

    #[test]
    fn a_queue_is_a_retry_handler() {
        assert_eq!(retry_handler(b"0\n"), Ok(false));
        assert_eq!(retry_handler(b"12"), Ok(true));
        assert!(retry_handler(b"-1").is_err());
        assert_eq!(retry_handler(b""), Err(AttributeErrorKind::Empty));
    }

    #[test]
    fn mac_addresses() {
        assert_eq!(mac(b"02:00:00:00:0a:ff\n").unwrap().to_string(), "02:00:00:00:0a:ff");
        for text in ["02:00:00:00:0A:ff", "02:00:00:00:00", "02:00:00:00:00:00:00", "2:0:0:0:0:0", "hsn0"] {
            assert!(mac(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn words_and_uuids() {
        assert_eq!(word(b"6.8.0-31-generic\n").as_deref(), Ok("6.8.0-31-generic"));
        for text in ["a b", "a\0", "\u{e9}", &"a".repeat(65)] {
            assert!(word(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(is_uuid("0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c"));
        for text in ["", "0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3", "0F6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c"] {
            assert!(!is_uuid(text), "{text}");
        }
    }

    fn trimmed(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap().trim()
    }

    #[test]
    fn any_input_is_a_fabric_address_or_refused() {
        cxi_any_input::bytes(&[b"0x0\n", b"0x1f", b"0xfffff\n", b"0xffffffff"], &|bytes| {
            let nid = nid(bytes);
            if let Ok(nid) = &nid {
                let number = nid.unwrap_or(u32::MAX);
                assert_eq!(u128::from_str_radix(&trimmed(bytes)[2..], 16), Ok(number.into()));
                assert_eq!(nid.is_none(), number == u32::MAX);
            }
            nid.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_a_number_or_refused() {
        cxi_any_input::bytes(&[b"0\n", b"4294967295", b"9000\n"], &|bytes| {
            let number = number(bytes);
            if let Ok(number) = &number {
                assert_eq!(trimmed(bytes).parse(), Ok(u128::from(*number)));
            }
            assert_eq!(retry_handler(bytes).ok(), number.as_ref().ok().map(|number| *number != 0));
            number.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_a_mac_address_or_refused() {
        cxi_any_input::bytes(&[b"02:00:00:00:0a:ff\n", b"ff:ff:ff:ff:ff:ff"], &|bytes| {
            let address = mac(bytes);
            if let Ok(address) = &address {
                assert_eq!(address.to_string(), trimmed(bytes));
            }
            address.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_a_word_or_refused() {
        cxi_any_input::bytes(&[b"6.8.0-31-generic\n", b"2.1.5", b"git~1.0_a+b"], &|bytes| {
            let word = word(bytes);
            if let Ok(word) = &word {
                assert_eq!(word, trimmed(bytes));
                assert!(word.chars().all(|character| !character.is_whitespace() && !character.is_control()));
            }
            word.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_a_boot_id_or_refused() {
        cxi_any_input::bytes(&[b"0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c\n"], &|bytes| {
            let id = uuid(bytes);
            if let Ok(id) = &id {
                let lengths: Vec<usize> = trimmed(bytes).split('-').map(str::len).collect();
                assert_eq!((id.as_str(), lengths.as_slice()), (trimmed(bytes), &[8, 4, 4, 4, 12][..]));
            }
            id.is_ok().into()
        });
    }
}
