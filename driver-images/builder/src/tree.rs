//! A directory of files as a value: its digest, its newest time, and a copy of it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::SystemTime};

use sha2::{Digest, Sha256};
use walkdir::{DirEntry, WalkDir};

use crate::error::{Attempt, Error, Result};

/// What a version control system keeps beside a tree.
const NOT_SOURCE: [&str; 4] = [".git", ".hg", ".svn", "target"];

/// Files and links below `root`, in an order that is the same everywhere.
fn entries(root: &Path) -> impl Iterator<Item = Result<DirEntry>> {
    let keep =
        |entry: &DirEntry| entry.depth() == 0 || !NOT_SOURCE.contains(&entry.file_name().to_string_lossy().as_ref());
    let walk = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(keep);
    let root = root.to_owned();
    walk.map(move |entry| {
        entry.map_err(|error| Error::Io { attempt: format!("read {}", root.display()), source: error.into() })
    })
}

/// SHA-256 over names, contents, link targets and the right to execute: what decides about a build.
pub fn digest(root: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    for entry in entries(root) {
        let entry = entry?;
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap_or(path).as_os_str().as_encoded_bytes().to_owned();
        let (kind, content) = if entry.file_type().is_symlink() {
            let target = fs::read_link(path).attempt(|| format!("read {}", path.display()))?;
            (b'l', target.as_os_str().as_encoded_bytes().to_owned())
        } else if entry.file_type().is_file() {
            let content = fs::read(path).attempt(|| format!("read {}", path.display()))?;
            let mode = fs::metadata(path).attempt(|| format!("read {}", path.display()))?.permissions().mode();
            (if mode & 0o111 == 0 { b'f' } else { b'x' }, content)
        } else {
            continue;
        };
        digest.update([kind]);
        for part in [name, content] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
    }
    Ok(hex(&digest.finalize()))
}

/// SHA-256 of a file.
pub fn file_digest(path: &Path) -> Result<String> {
    let content = fs::read(path).attempt(|| format!("read {}", path.display()))?;
    Ok(hex(&Sha256::digest(content)))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// Newest modification time of a file, in seconds since 1970; 0 where there is none.
pub fn newest(root: &Path) -> Result<u64> {
    let mut newest = 0;
    for entry in entries(root) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let time = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
            let seconds = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            newest = newest.max(seconds.map_or(0, |seconds| seconds.as_secs()));
        }
    }
    Ok(newest)
}

/// Copies a tree; links stay links.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in entries(from) {
        let entry = entry?;
        let path = entry.path();
        let place = to.join(path.strip_prefix(from).unwrap_or(path));
        let attempt = || format!("copy {} to {}", path.display(), place.display());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&place).attempt(attempt)?;
        } else if entry.file_type().is_symlink() {
            let target = fs::read_link(path).attempt(attempt)?;
            std::os::unix::fs::symlink(target, &place).attempt(attempt)?;
        } else if entry.file_type().is_file() {
            fs::copy(path, &place).attempt(attempt)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_contents_names_and_rights_apart_and_nothing_else() {
        let make = |files: &[(&str, &str)]| {
            let directory = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let path = directory.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            directory
        };
        let of = |files: &[(&str, &str)]| digest(make(files).path()).unwrap();
        let one = of(&[("a", "1"), ("b/c", "2")]);
        assert_eq!(one, of(&[("b/c", "2"), ("a", "1"), (".git/HEAD", "x")]));
        assert_ne!(one, of(&[("a", "1"), ("b/c", "3")]));
        assert_ne!(one, of(&[("a", "1"), ("b/d", "2")]));
        assert_ne!(of(&[("a", "12")]), of(&[("a1", "2")]));

        let tree = make(&[("a", "1"), ("b/c", "2")]);
        fs::set_permissions(tree.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(one, digest(tree.path()).unwrap());

        let copied = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("a", tree.path().join("l")).unwrap();
        copy(tree.path(), copied.path()).unwrap();
        assert_eq!(digest(tree.path()).unwrap(), digest(copied.path()).unwrap());
    }
}
