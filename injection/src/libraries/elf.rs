//! Whether a file is a shared library that a program of this machine can load.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// The part of an ELF header (elf(5)) that says it: identification, type, machine.
const HEADER: usize = 20;

/// `e_machine` of this machine.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// Why a file is no such library.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is not a shared library")]
    NotALibrary,
    #[error("it is for another kind of machine")]
    OtherMachine,
}

/// Checks the file at `path`.
pub fn check(path: &Path) -> Result<(), ElfError> {
    // Before opening: the open of a pipe would wait.
    if !path.metadata()?.is_file() {
        return Err(ElfError::NotAFile);
    }
    let mut header = [0; HEADER];
    File::open(path)?.read_exact(&mut header).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ElfError::NotALibrary,
        _ => error.into(),
    })?;
    check_header(header)
}

fn check_header(header: [u8; HEADER]) -> Result<(), ElfError> {
    const SHARED_OBJECT: u16 = 3;
    let [0x7f, b'E', b'L', b'F', class, order, _, _, _, _, _, _, _, _, _, _, t0, t1, m0, m1] = header else {
        return Err(ElfError::NotALibrary);
    };
    // 64 bits, little-endian: both machines are.
    if (class, order) != (2, 1) || u16::from_le_bytes([m0, m1]) != MACHINE {
        return Err(ElfError::OtherMachine);
    }
    if u16::from_le_bytes([t0, t1]) == SHARED_OBJECT { Ok(()) } else { Err(ElfError::NotALibrary) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The beginning of a library for this machine.
    pub(in super::super) fn shared_object() -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[16] = 3;
        header[18..].copy_from_slice(&MACHINE.to_le_bytes());
        header
    }

    #[test]
    fn accepts_a_library_of_this_machine_only() {
        assert!(check_header(shared_object()).is_ok());
        let with = |at: usize, byte: u8| {
            let mut header = shared_object();
            header[at] = byte;
            check_header(header)
        };
        assert!(matches!(with(0, b'#'), Err(ElfError::NotALibrary)));
        assert!(matches!(with(4, 1), Err(ElfError::OtherMachine)), "32 bits");
        assert!(matches!(with(18, 3), Err(ElfError::OtherMachine)), "i386");
        assert!(matches!(with(16, 2), Err(ElfError::NotALibrary)), "a program at a fixed address");
    }

    #[test]
    fn files_that_are_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(check(directory.path()), Err(ElfError::NotAFile)));
        assert!(matches!(check(&directory.path().join("none")), Err(ElfError::Unreadable(_))));
        std::fs::write(directory.path().join("short"), "\x7fELF").unwrap();
        assert!(matches!(check(&directory.path().join("short")), Err(ElfError::NotALibrary)));
        assert!(check(&std::env::current_exe().unwrap()).is_ok(), "a position-independent program is one too");
    }

    #[test]
    fn any_input_is_a_library_of_this_machine_or_refused() {
        cxi_any_input::bytes(&[&shared_object()], &|bytes| {
            let mut header = [0; HEADER];
            header.iter_mut().zip(bytes).for_each(|(byte, other)| *byte = *other);
            let answer = check_header(header);
            // The six bytes of identification, the type, the machine; the rest may be anything.
            let named = [0, 1, 2, 3, 4, 5, 16, 17, 18, 19];
            assert_eq!(answer.is_ok(), named.iter().all(|at| header[*at] == shared_object()[*at]));
            answer.is_ok().into()
        });
    }
}
