//! The GNU build-id of a loaded module: the only identity it has, as the CXI driver carries no version.

use std::{fmt::Write as _, path::Path};

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

    #[test]
    fn any_input_has_a_build_id_that_is_in_it_or_none() {
        let alone = note(b"GNU\0", 3, &[0xab; 20]);
        let behind = [note(b"Linux\0", 257, b"x"), note(b"GNU\0", 5, &[1; 4]), note(b"GNU\0", 3, &[7; 16])].concat();
        cxi_any_input::bytes(&[&alone, &behind], &|bytes| {
            let id = parse(bytes);
            if let Ok(id) = &id {
                let is_there = |part: &[u8]| part.strip_prefix(b"GNU\0").is_some_and(|rest| hexadecimal(rest) == *id);
                assert!(bytes.windows(4 + id.len() / 2).any(is_there), "{id}");
            }
            id.is_ok().into()
        });
    }

    #[test]
    fn any_id_behind_any_other_note_is_found() {
        let other = |name: &[u8]| note(&name[..name.len().min(9)], 9, b"abc");
        cxi_any_input::bytes(&[b"12345678"], &|bytes| {
            let id = &bytes[..bytes.len().min(LONGEST)];
            let section = [other(bytes), note(b"GNU\0", 3, id)].concat();
            assert_eq!(parse(&section).is_ok_and(|found| found == hexadecimal(id)), !id.is_empty());
            (!id.is_empty()).into()
        });
    }
}
