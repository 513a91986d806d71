//! Writing a tree as the archive that a kernel unpacks as its first root (`newc`, see
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel). Uncompressed: an emulated processor would
//! spend seconds on unpacking.

use std::{
    fs,
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

/// Writes everything below `tree`, all of it root's.
pub(crate) fn write(tree: &Path, mut to: impl Write) -> io::Result<()> {
    let mut number = 0;
    write_directory(tree, tree, &mut number, &mut to)?;
    entry(&mut to, b"TRAILER!!!", 0, 0, 1, b"")
}

fn write_directory(tree: &Path, directory: &Path, number: &mut u32, to: &mut impl Write) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for item in entries {
        let path = item.path();
        let kind = item.file_type()?;
        let name = path.strip_prefix(tree).map_err(io::Error::other)?.as_os_str().as_bytes().to_vec();
        *number += 1;
        if kind.is_symlink() {
            entry(to, &name, *number, 0o120_777, 1, fs::read_link(&path)?.as_os_str().as_bytes())?;
        } else if kind.is_dir() {
            entry(to, &name, *number, 0o040_755, 2, b"")?;
            write_directory(tree, &path, number, to)?;
        } else {
            let mode = 0o100_000 | (item.metadata()?.permissions().mode() & 0o777);
            entry(to, &name, *number, mode, 1, &fs::read(&path)?)?;
        }
    }
    Ok(())
}

/// One file: fourteen numbers of eight hexadecimal digits, the name, the content, each filled up to four bytes.
fn entry(to: &mut impl Write, name: &[u8], number: u32, mode: u32, links: u32, content: &[u8]) -> io::Result<()> {
    let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    // Number, mode, owner, group, links, time, size, four of devices, length of the name with its end, checksum.
    let numbers = [number, mode, 0, 0, links, 0, length(content.len())?, 0, 0, 0, 0, length(name.len() + 1)?, 0];
    let mut header = b"070701".to_vec();
    for number in numbers {
        write!(header, "{number:08X}")?;
    }
    header.extend(name);
    header.push(0);
    for part in [&header, content] {
        to.write_all(part)?;
        to.write_all(&[0; 3][..part.len().next_multiple_of(4) - part.len()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command};

    use super::*;

    #[test]
    fn busybox_reads_it() {
        let Some(busybox) = crate::program::find("busybox") else {
            panic!("busybox is missing: apt-get install busybox-static");
        };
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("bin")).unwrap();
        fs::write(tree.path().join("bin/program"), "12345").unwrap();
        fs::set_permissions(tree.path().join("bin/program"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(tree.path().join("empty"), "").unwrap();
        symlink("bin/program", tree.path().join("link")).unwrap();
        let target = tempfile::tempdir().unwrap();
        let archive = target.path().join("archive");
        write(tree.path(), fs::File::create(&archive).unwrap()).unwrap();
        let mut unpack = Command::new(busybox);
        unpack.args(["cpio", "-i", "-d", "-F"]).arg(&archive).current_dir(target.path());
        crate::program::output(&mut unpack).unwrap();
        assert_eq!(fs::read_to_string(target.path().join("link")).unwrap(), "12345");
        assert_eq!(fs::metadata(target.path().join("empty")).unwrap().len(), 0);
        let mode = fs::metadata(target.path().join("bin/program")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }
}
