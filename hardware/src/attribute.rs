//! One sysfs attribute: a small text file that may be missing, empty, unreadable or nonsense.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{Function, Link};

/// The longest attribute that is read, in bytes. The kernel hands out at most one page per sysfs attribute
/// (`sysfs_emit`), and all attributes read here are far shorter.
pub const MAX_ATTRIBUTE_BYTES: usize = 4096;

/// One attribute of one device has no usable value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct AttributeError {
    /// The file that was read.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: AttributeErrorKind,
}

/// Why an attribute has no usable value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeErrorKind {
    /// There is no such file.
    #[error("no such attribute")]
    Missing,
    /// The kernel refused or failed to read it.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// It has no content, which some attributes use for "not known".
    #[error("is empty")]
    Empty,
    /// It is longer than what it could be, in bytes: [`MAX_ATTRIBUTE_BYTES`] for an attribute of sysfs.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// It holds bytes that are not UTF-8.
    #[error("is not text")]
    NotText,
    /// It is text, and not of the form expected.
    #[error("holds {found:?}, expected {expected}")]
    Invalid {
        /// The start of what was found, at most 64 characters.
        found: String,
        /// What would have been right.
        expected: &'static str,
    },
}

impl AttributeErrorKind {
    pub(crate) fn invalid(found: &str, expected: &'static str) -> Self {
        Self::Invalid { found: found.chars().take(64).collect(), expected }
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            kind => Self::Unreadable(kind),
        }
    }
}

/// Reads `path` and hands its bytes to `parse`.
pub(crate) fn read<T>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, AttributeErrorKind>,
) -> Result<T, AttributeError> {
    read_at_most(path, MAX_ATTRIBUTE_BYTES, parse)
}

/// An attribute that not every device has: `None` where it is missing.
pub(crate) fn optional<T>(result: Result<T, AttributeError>) -> Result<Option<T>, AttributeError> {
    match result {
        Err(AttributeError { kind: AttributeErrorKind::Missing, .. }) => Ok(None),
        answer => answer.map(Some),
    }
}

/// Reads `path`, which has at most `limit` bytes, and hands them to `parse`.
pub(crate) fn read_at_most<T>(
    path: &Path,
    limit: usize,
    parse: impl FnOnce(&[u8]) -> Result<T, AttributeErrorKind>,
) -> Result<T, AttributeError> {
    let bytes = read_bytes(path, limit)
        .map_err(|error| AttributeErrorKind::from_io(&error))
        .and_then(|bytes| if bytes.len() > limit { Err(AttributeErrorKind::TooLong(limit)) } else { Ok(bytes) });
    bytes.and_then(|bytes| parse(&bytes)).map_err(|kind| AttributeError { path: path.into(), kind })
}

/// The content of `path`, cut off one byte after `limit`.
pub(crate) fn read_bytes(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64);
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of an attribute without surrounding white space; never empty.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, AttributeErrorKind> {
    match std::str::from_utf8(bytes).map(str::trim) {
        Err(_) => Err(AttributeErrorKind::NotText),
        Ok("") => Err(AttributeErrorKind::Empty),
        Ok(text) => Ok(text),
    }
}

/// A PCI id as the PCI core prints it: `0x` and four hexadecimal digits.
pub(crate) fn pci_id(bytes: &[u8]) -> Result<u16, AttributeErrorKind> {
    let text = text(bytes)?;
    text.strip_prefix("0x")
        .filter(|digits| digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|digits| u16::from_str_radix(digits, 16).ok())
        .ok_or_else(|| AttributeErrorKind::invalid(text, "0x and four hexadecimal digits"))
}

/// A NUMA node as the PCI core prints it; `-1` says that the platform names none.
pub(crate) fn numa_node(bytes: &[u8]) -> Result<Option<u32>, AttributeErrorKind> {
    let text = text(bytes)?;
    if text == "-1" {
        return Ok(None);
    }
    decimal(text).map(Some).ok_or_else(|| AttributeErrorKind::invalid(text, "a NUMA node number or -1"))
}

/// `properties/link`: `1` while the physical link is running, else `0`.
pub(crate) fn link(bytes: &[u8]) -> Result<Link, AttributeErrorKind> {
    match text(bytes)? {
        "1" => Ok(Link::Up),
        "0" => Ok(Link::Down),
        other => Err(AttributeErrorKind::invalid(other, "0 or 1")),
    }
}

/// `resource` of the PCI core, one line `start end flags` per region. The driver takes a Cassini 1 for a physical
/// function exactly when region 0 has at least 2 GiB.
pub(crate) fn cassini_1_function(bytes: &[u8]) -> Result<Function, AttributeErrorKind> {
    const PHYSICAL_BAR_BYTES: u64 = 2 << 30;
    let text = text(bytes)?;
    let size = || {
        let mut fields = text
            .lines()
            .next()?
            .split_ascii_whitespace()
            .map(|field| field.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()));
        let (start, end) = (fields.next()??, fields.next()??);
        // An unassigned region is printed as zeros; it says nothing about the function.
        end.checked_sub(start).filter(|length| *length > 0)?.checked_add(1)
    };
    match size() {
        Some(size) if size >= PHYSICAL_BAR_BYTES => Ok(Function::Physical),
        Some(_) => Ok(Function::Virtual),
        None => Err(AttributeErrorKind::invalid(text, "a first line with start and end of region 0")),
    }
}

/// A decimal number without sign.
pub(crate) fn decimal<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(b"0x17db\n", 0x17db)]
    #[case(b"0x0501", 0x0501)]
    fn accepts_pci_id(#[case] bytes: &[u8], #[case] id: u16) {
        assert_eq!(pci_id(bytes), Ok(id));
    }

    #[rstest]
    #[case(b"17db")]
    #[case(b"0x17dbf")]
    #[case(b"0x+7db")]
    #[case(b"0x")]
    #[case("0x17d\u{e9}".as_bytes())]
    fn rejects_pci_id(#[case] bytes: &[u8]) {
        assert!(matches!(pci_id(bytes), Err(AttributeErrorKind::Invalid { .. })));
    }

    #[rstest]
    #[case(b"0\n", Ok(Some(0)))]
    #[case(b"3", Ok(Some(3)))]
    #[case(b"-1\n", Ok(None))]
    #[case(b"\n", Err(AttributeErrorKind::Empty))]
    #[case(b"", Err(AttributeErrorKind::Empty))]
    #[case(b"\xff\xfe", Err(AttributeErrorKind::NotText))]
    fn numa(#[case] bytes: &[u8], #[case] expected: Result<Option<u32>, AttributeErrorKind>) {
        assert_eq!(numa_node(bytes), expected);
    }

    #[rstest]
    #[case(b"-2")]
    #[case(b"+1")]
    #[case(b"1 2")]
    #[case(b"4294967296")]
    fn rejects_numa(#[case] bytes: &[u8]) {
        assert!(matches!(numa_node(bytes), Err(AttributeErrorKind::Invalid { .. })));
    }

    #[rstest]
    #[case(b"1\n", Ok(Link::Up))]
    #[case(b"0", Ok(Link::Down))]
    #[case(b"", Err(AttributeErrorKind::Empty))]
    #[case(b"2", Err(AttributeErrorKind::invalid("2", "0 or 1")))]
    #[case(b"up", Err(AttributeErrorKind::invalid("up", "0 or 1")))]
    fn link_state(#[case] bytes: &[u8], #[case] expected: Result<Link, AttributeErrorKind>) {
        assert_eq!(link(bytes), expected);
    }

    #[rstest]
    #[case("0x0000000080000000 0x00000000ffffffff 0x0000000000140204\n", Function::Physical)]
    #[case("0x0000000080000000 0x0000000087ffffff 0x0000000000140204\n", Function::Virtual)]
    fn first_region_tells_the_function(#[case] text: &str, #[case] function: Function) {
        assert_eq!(cassini_1_function(text.as_bytes()), Ok(function));
    }

    #[rstest]
    #[case("0x0000000000000000 0x0000000000000000 0x0000000000000000\n")]
    #[case("0x2 0x1 0x0")]
    #[case("0x0 0xffffffffffffffff 0x0")]
    #[case("nonsense")]
    fn rejects_region(#[case] text: &str) {
        assert!(matches!(cassini_1_function(text.as_bytes()), Err(AttributeErrorKind::Invalid { .. })));
    }

    #[test]
    fn a_huge_file_is_not_read_to_its_end() {
        let error = read(Path::new("/dev/zero"), |_| Ok(())).unwrap_err();
        assert_eq!(error.kind, AttributeErrorKind::TooLong(MAX_ATTRIBUTE_BYTES));
    }

    #[test]
    fn a_directory_is_unreadable_and_a_missing_file_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let unreadable = read(directory.path(), |_| Ok(())).unwrap_err();
        assert_eq!(unreadable.kind, AttributeErrorKind::Unreadable(io::ErrorKind::IsADirectory));
        let missing = read(&directory.path().join("link"), |_| Ok(())).unwrap_err();
        assert_eq!(missing.kind, AttributeErrorKind::Missing);
        assert!(missing.to_string().ends_with("/link: no such attribute"), "{missing}");
    }

    /// The number that an independent reader reads from the text.
    fn independently(bytes: &[u8], digits: u32) -> Option<i128> {
        let text = std::str::from_utf8(bytes).ok()?.trim();
        i128::from_str_radix(if digits == 16 { text.strip_prefix("0x")? } else { text }, digits).ok()
    }

    #[test]
    fn any_input_is_a_pci_id_or_refused() {
        cxi_any_input::bytes(&[b"0x17db\n", b"0x0501"], &|bytes| {
            let id = pci_id(bytes);
            assert!(id.as_ref().is_ok_and(|id| independently(bytes, 16) == Some((*id).into())) || id.is_err());
            id.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_a_numa_node_or_refused() {
        cxi_any_input::bytes(&[b"0\n", b"-1\n", b"17"], &|bytes| {
            let node = numa_node(bytes);
            let number = |node: &Option<u32>| node.map_or(-1, i128::from);
            assert!(node.as_ref().is_ok_and(|node| independently(bytes, 10) == Some(number(node))) || node.is_err());
            node.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_a_link_state_or_refused() {
        cxi_any_input::bytes(&[b"0\n", b"1\n"], &|bytes| {
            let state = link(bytes);
            assert_eq!(state == Ok(Link::Up), bytes.trim_ascii() == b"1" || state == Ok(Link::Up));
            assert!(state.is_err() || matches!(independently(bytes, 10), Some(0 | 1)));
            state.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_a_function_by_the_size_of_its_first_region_or_refused() {
        let physical = b"0x0000001000000000 0x000000107fffffff 0x000000000014220c\n0x0 0x0 0x0\n";
        let virtual_ = b"0x0000002000000000 0x00000020003fffff 0x000000000014220c\n";
        cxi_any_input::bytes(&[physical, virtual_], &|bytes| {
            let function = cassini_1_function(bytes);
            if let Ok(function) = &function {
                let text = std::str::from_utf8(bytes).unwrap().trim();
                let mut ends = text.lines().next().unwrap().split_ascii_whitespace();
                let mut end = || independently(ends.next().unwrap().as_bytes(), 16).unwrap();
                let (first, last) = (end(), end());
                assert_eq!(*function == Function::Physical, last - first + 1 >= 2 << 30, "{first:x} {last:x}");
            }
            function.is_ok().into()
        });
    }
}
