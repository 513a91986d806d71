//! The directory outside the repository where built tools are kept, and how it is written.
//!
//! Everything in it can be deleted at any time. Writers take a file lock, write beside the final place and
//! rename, so that a reader sees a whole entry or none, and a killed build leaves nothing behind that counts.

use std::{
    env,
    ffi::OsString,
    fmt::Write,
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    error::{Attempt, Error, Result},
    progress::Progress,
};

/// The cache directory: `$CXI_CACHE_DIR`, else `$XDG_CACHE_HOME/cxi-operator`, else `~/.cache/cxi-operator`.
///
/// # Errors
/// If none of the variables is set.
pub fn directory() -> Result<PathBuf> {
    choose(|name| env::var_os(name)).ok_or(Error::NoCacheDirectory)
}

fn choose(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CXI_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("cxi-operator")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/cxi-operator")))
}

/// A name for what is made of `parts`: 16 hexadecimal digits that change when any part changes.
pub fn key<P: AsRef<[u8]>>(parts: &[P]) -> String {
    let mut hash = Sha256::new();
    for part in parts.iter().map(AsRef::as_ref) {
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

/// An exclusive lock between processes, released on drop or when the process dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Waits for the lock file `<path>.lock`; says so when another process holds it.
    ///
    /// # Errors
    /// If the lock file cannot be created or locked.
    pub fn acquire(path: &Path, progress: &Progress) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        create_parent(&path)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .attempt(|| format!("open the lock file {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let step = progress.step(&format!("{} is being built by another process", what(&path)));
                file.lock().attempt(|| format!("lock {}", path.display()))?;
                step.done();
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::Io { attempt: format!("lock {}", path.display()), source });
            }
        }
        Ok(Self(file))
    }
}

/// What a lock is for: the name of its file without the key and the ending.
fn what(lock: &Path) -> String {
    let name = lock.file_stem().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').map_or(name.as_ref(), |(name, _)| name).to_owned()
}

/// Creates the directory that `path` lies in.
pub(crate) fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).attempt(|| format!("create the directory {}", parent.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_every_part() {
        let base = key(&["mod", "sum", "flags", "go1.26.8"]);
        assert_eq!(base.len(), 16);
        assert_eq!(base, key(&["mod", "sum", "flags", "go1.26.8"]));
        assert_ne!(base, key(&["mods", "um", "flags", "go1.26.8"]));
        assert_ne!(base, key(&["mod", "sum", "flags", "go1.27.0"]));
    }

    #[test]
    fn a_lock_says_what_is_built() {
        assert_eq!(what(Path::new("/cache/tools/kubernetes-5e6e64d9555c19a4.lock")), "kubernetes");
        assert_eq!(what(Path::new("/cache/go.lock")), "go");
    }

    fn chosen(variables: &[(&str, &str)]) -> Option<PathBuf> {
        choose(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value)))
    }

    #[test]
    fn the_nearest_variable_wins() {
        let home = ("HOME", "/home/ada");
        let xdg = ("XDG_CACHE_HOME", "/var/cache/ada");
        assert_eq!(chosen(&[home, xdg, ("CXI_CACHE_DIR", "/c")]), Some("/c".into()));
        assert_eq!(chosen(&[home, xdg]), Some("/var/cache/ada/cxi-operator".into()));
        assert_eq!(chosen(&[home, ("XDG_CACHE_HOME", "")]), Some("/home/ada/.cache/cxi-operator".into()));
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entry");
        let lock = Lock::acquire(&path, &Progress::silent()).unwrap();
        let other = File::open(directory.path().join("entry.lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(lock);
        other.try_lock().unwrap();
    }
}
