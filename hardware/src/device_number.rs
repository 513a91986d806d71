//! Which device a file is, by its device number.
//!
//! A file may be on a file system whose server hangs or lets only its owner in. Asked only for what the kernel has in
//! memory, and for nothing that a file system would have to ask for, the kernel answers at once (`AT_STATX_DONT_SYNC`,
//! an empty mask), which is all that a device's number needs.

use std::{collections::BTreeMap, fs, io, path::Path};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

use crate::{NicName, Root};

/// Major and minor number.
pub(crate) type Number = (u32, u32);

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A character device.
    Device(Number),
    /// Something else.
    Other,
    /// Not known: the file is gone, or its file system does not tell.
    Unknown,
}

impl Kind {
    /// What there is at `path`.
    pub(crate) fn of(path: &Path) -> Self {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let Ok(file) = statx(CWD, path, flags, StatxFlags::empty()) else { return Self::Unknown };
        match FileType::from_raw_mode(file.stx_mode.into()) {
            FileType::CharacterDevice => Self::Device((file.stx_rdev_major, file.stx_rdev_minor)),
            // A file system in user space that lets only its owner in fills in nothing.
            FileType::Unknown => Self::Unknown,
            _ => Self::Other,
        }
    }
}

/// The devices under the root's `/dev` by their numbers.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn numbers(root: &Root) -> io::Result<BTreeMap<Number, NicName>> {
    let mut numbers = BTreeMap::new();
    for entry in fs::read_dir(root.dev())? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Kind::Device(number) = Kind::of(&entry.path()) {
            numbers.insert(number, name);
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_number() {
        // `devices.txt` of the kernel: null is 1:3.
        assert_eq!(Kind::of(Path::new("/dev/null")), Kind::Device((1, 3)));
        assert_eq!(Kind::of(Path::new("/")), Kind::Other);
        assert_eq!(Kind::of(Path::new("/nowhere")), Kind::Unknown);
    }
}
