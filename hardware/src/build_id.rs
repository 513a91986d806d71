//! The GNU build-id of a loaded module: the only identity it has, as the CXI driver carries no version.

use std::fmt::Write as _;
use std::path::Path;

use crate::{AttributeError, AttributeErrorKind, attribute};

/// Type of the note, `NT_GNU_BUILD_ID` of `elf.h`.
const GNU_BUILD_ID: u32 = 3;

/// Longest build-id taken for one, in bytes. Linkers write 8 to 32.
const LONGEST: usize = 64;

/// Reads the build-id of the module in `directory` (`/sys/module/<name>`), in lower-case hexadecimal; `None` when the
/// kernel does not show one.
///
/// # Errors
/// When the note is there and cannot be read or holds something else.
pub fn read(directory: &Path) -> Result<Option<String>, AttributeError> {
    match attribute::read(&directory.join("notes/.note.gnu.build-id"), parse) {
        Err(AttributeError { kind: AttributeErrorKind::Missing, .. }) => Ok(None),
        answer => answer.map(Some),
    }
}

/// The build-id in a section of ELF notes of this machine's byte order.
fn parse(section: &[u8]) -> Result<String, AttributeErrorKind> {
    if section.is_empty() {
        return Err(AttributeErrorKind::Empty);
    }
    find(section).map(hexadecimal).ok_or_else(|| AttributeErrorKind::Invalid {
        found: hexadecimal(&section[..section.len().min(32)]),
        expected: "an ELF note with a GNU build-id",
    })
}

fn find(mut section: &[u8]) -> Option<&[u8]> {
    loop {
        let (name_length, rest) = word(section)?;
        let (length, rest) = word(rest)?;
        let (kind, rest) = word(rest)?;
        let (name, rest) = padded(rest, name_length)?;
        let (description, rest) = padded(rest, length)?;
        if kind == GNU_BUILD_ID && name == b"GNU\0" {
            return (1..=LONGEST).contains(&description.len()).then_some(description);
        }
        section = rest;
    }
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_ne_bytes(*word), rest))
}

/// The first `length` bytes, and what follows their padding to four.
fn padded(bytes: &[u8], length: u32) -> Option<(&[u8], &[u8])> {
    let (content, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    let padding = content.len().next_multiple_of(4) - content.len();
    // The last padding of a section may be left out.
    Some((content, rest.get(padding..).unwrap_or_default()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [u32::try_from(name.len()).unwrap(), u32::try_from(description.len()).unwrap(), kind] {
            note.extend(word.to_ne_bytes());
        }
        for part in [name, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn finds_the_build_id_behind_other_notes() {
        let section = note(b"GNU\0", 3, &[0xab; 20]);
        assert_eq!(parse(&section), Ok("ab".repeat(20)));
        let section =
            [note(b"Linux\0", 257, b"x"), note(b"GNU\0", 5, &[1; 4]), note(b"GNU\0", 3, &[0x01, 0xff])].concat();
        assert_eq!(parse(&section).as_deref(), Ok("01ff"));
        assert_eq!(parse(&section[..section.len() - 2]).as_deref(), Ok("01ff"), "padding left out");
    }

    #[test]
    fn rejects_what_is_not_one() {
        let section = note(b"GNU\0", 3, &[0xab; 20]);
        for cut in 1..section.len() {
            assert!(matches!(parse(&section[..cut]), Err(AttributeErrorKind::Invalid { .. })), "{cut}");
        }
        assert_eq!(parse(b""), Err(AttributeErrorKind::Empty));
        for section in [note(b"GNU\0", 3, b""), note(b"GNU\0", 3, &[0; 65]), note(b"GNX\0", 3, &[0; 20])] {
            assert!(parse(&section).is_err());
        }
    }

    #[test]
    fn a_module_without_a_note_has_none_and_a_huge_one_is_refused() {
        let module = tempfile::tempdir().unwrap();
        assert_eq!(read(module.path()), Ok(None));
        fs::create_dir(module.path().join("notes")).unwrap();
        let path = module.path().join("notes/.note.gnu.build-id");
        fs::write(&path, note(b"GNU\0", 3, &[7; 20])).unwrap();
        assert_eq!(read(module.path()), Ok(Some("07".repeat(20))));
        fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert!(matches!(read(module.path()).unwrap_err().kind, AttributeErrorKind::TooLong(_)));
    }

    proptest! {
        #[test]
        fn arbitrary_sections_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn sections_with_arbitrary_lengths_never_panic(
            words in proptest::collection::vec(prop_oneof![0u32..24, any::<u32>()], 0..24),
        ) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let _ = parse(&bytes);
        }

        #[test]
        fn what_was_written_is_found(id in proptest::collection::vec(any::<u8>(), 1..=LONGEST), other in ".{0,9}") {
            let section = [note(other.as_bytes(), 9, b"abc"), note(b"GNU\0", 3, &id)].concat();
            prop_assert_eq!(parse(&section), Ok(hexadecimal(&id)));
        }
    }
}
