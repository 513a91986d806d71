//! The directory in which a retry handler serves its statistics: made before it starts, and swept after it ended.
//!
//! One that dies leaves its mount behind, on which everything fails. The unit file of the vendor does the same with
//! `fusermount -u` and `mkdir -p`; here the kernel is asked directly, so that the image needs no programs.

use std::{fs, io, path::Path};

use rustix::mount::{UnmountFlags, unmount};

/// Makes `directory`, free of what an earlier retry handler left.
///
/// # Errors
/// When it cannot be made. A retry handler runs without statistics then.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    release(directory)?;
    fs::create_dir_all(directory)
}

/// Removes `directory` and what is mounted there.
///
/// # Errors
/// When it is still mounted. A directory with something in it stays, and that is fine.
pub(super) fn sweep(directory: &Path) -> io::Result<()> {
    release(directory)?;
    match fs::remove_dir(directory) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Err(error),
        _ => Ok(()),
    }
}

/// Detaches every FUSE mount on `directory` without ever asking its server.
fn release(directory: &Path) -> io::Result<()> {
    let mounts = fs::read("/proc/self/mountinfo")?;
    for _ in 0..fuse_mounts(&String::from_utf8_lossy(&mounts), directory) {
        unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

/// How many FUSE mounts are on `directory`, from the text of `/proc/self/mountinfo`: `id parent device root
/// mount-point options [tags…] - type source options` (`proc_pid_mountinfo(5)`).
fn fuse_mounts(mountinfo: &str, directory: &Path) -> usize {
    let is_one = |line: &&str| {
        let Some((mount, file_system)) = line.split_once(" - ") else { return false };
        let point = mount.split(' ').nth(4).map(unescape);
        let kind = file_system.split(' ').next().unwrap_or_default();
        let is_fuse = kind == "fuse" || kind == "fuseblk" || kind.starts_with("fuse.");
        is_fuse && point.is_some_and(|point| Path::new(&point) == directory)
    };
    mountinfo.lines().filter(is_one).count()
}

/// Undoes the octal escapes of the kernel for space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 0:20 / /run rw,nosuid shared:5 - tmpfs tmpfs rw
50 22 0:50 / /run/cxi/cxi0 rw,nosuid,nodev,relatime shared:9 - fuse cxi_rh rw,user_id=0,group_id=0,allow_other
51 50 0:51 / /run/cxi/cxi0 rw - fuse.cxi_rh cxi_rh rw
52 22 0:52 / /run/cxi/cxi1 rw shared:9 - tmpfs fuse rw
53 22 0:53 / /run/a\\040b rw master:1 propagate_from:2 - fuse x rw
54 22 0:54 / /run/cxi/cxi2 rw - fusectl fuse rw
";

    #[test]
    fn only_fuse_on_this_very_directory_counts() {
        for (directory, count) in [
            ("/run/cxi/cxi0", 2),
            ("/run/cxi/cxi1", 0),
            ("/run/cxi/cxi2", 0),
            ("/run/cxi/cxi", 0),
            ("/run/cxi", 0),
            ("/run/a b", 1),
        ] {
            assert_eq!(fuse_mounts(TABLE, Path::new(directory)), count, "{directory}");
        }
    }

    #[test]
    fn a_directory_comes_and_goes() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("cxi/cxi0");
        prepare(&directory).unwrap();
        prepare(&directory).unwrap();
        sweep(&directory).unwrap();
        assert!(!directory.exists());
        sweep(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("nacks"), "1\n").unwrap();
        sweep(&directory).unwrap();
        assert!(directory.join("nacks").exists());
    }

    #[test]
    fn any_input_has_at_most_a_mount_per_line() {
        cxi_any_input::text(&[TABLE], &|table| {
            let mounts = fuse_mounts(table, Path::new("/run/cxi/cxi0"));
            let could_be = |line: &&str| line.contains(" - fuse") && line.contains("cxi0");
            assert!(mounts <= table.lines().filter(could_be).count());
            (mounts > 0).into()
        });
    }
}
