//! The host's file system, as seen by a process that has it under a directory.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

/// As many symbolic links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// Where the host's `/` is: `/` itself, or the mount point of the host's file system in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoot(PathBuf);

impl Default for HostRoot {
    fn default() -> Self {
        Self("/".into())
    }
}

impl HostRoot {
    /// The host's file system under `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Where this process finds what is at `path` on the host. Links are not followed.
    pub fn seen(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The path on the host of what this process finds at `seen`; the same path when it is not under this root.
    pub fn on_host(&self, seen: &Path) -> PathBuf {
        seen.strip_prefix(&self.0).map_or_else(|_| seen.to_owned(), |path| Path::new("/").join(path))
    }

    /// The path on the host, without links in it, of what is at `path` on the host. Links are followed as the host
    /// follows them: an absolute one begins at this root again.
    ///
    /// # Errors
    /// When a part of the path does not exist or cannot be looked at, or there are too many links.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut resolved = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = parts(path).collect();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                resolved.pop();
                continue;
            }
            let next = resolved.join(&part);
            let seen = self.seen(&next);
            if !seen.symlink_metadata()?.is_symlink() {
                resolved = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::other("too many symbolic links"));
            }
            let target = std::fs::read_link(seen)?;
            if target.is_absolute() {
                resolved = "/".into();
            }
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(part);
            }
        }
        Ok(resolved)
    }
}

/// Names and `..` of a path.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_stay_in_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = HostRoot::new(directory.path());
        fs::create_dir_all(directory.path().join("opt/cray/libfabric/2.3.1/lib64")).unwrap();
        fs::write(directory.path().join("opt/cray/libfabric/2.3.1/lib64/libfabric.so.1.30"), "").unwrap();
        symlink("libfabric.so.1.30", directory.path().join("opt/cray/libfabric/2.3.1/lib64/libfabric.so.1")).unwrap();
        symlink("/opt/cray/libfabric/2.3.1/lib64", directory.path().join("opt/cray/lib64")).unwrap();
        symlink("../../../etc/passwd", directory.path().join("opt/out")).unwrap();
        symlink("loop", directory.path().join("loop")).unwrap();
        let resolved = |path: &str| root.resolve(Path::new(path));
        let real = Path::new("/opt/cray/libfabric/2.3.1/lib64/libfabric.so.1.30");
        assert_eq!(resolved("/opt/cray/lib64/libfabric.so.1").unwrap(), real);
        assert_eq!(resolved("/opt/cray/../cray/lib64").unwrap(), real.parent().unwrap());
        assert_eq!(resolved("/opt/out").unwrap_err().kind(), io::ErrorKind::NotFound, "the root's own etc/passwd");
        assert!(resolved("/loop").unwrap_err().to_string().contains("too many"));
        assert!(resolved("/opt/cray/lib64/none").is_err());
    }

    #[test]
    fn both_views_of_a_path() {
        let root = HostRoot::new("/host");
        assert_eq!(root.seen(Path::new("/usr/lib64")), Path::new("/host/usr/lib64"));
        assert_eq!(root.on_host(Path::new("/host/dev")), Path::new("/dev"));
        assert_eq!(root.on_host(Path::new("/tmp/dev")), Path::new("/tmp/dev"));
        assert_eq!(HostRoot::default().on_host(Path::new("/tmp/dev")), Path::new("/tmp/dev"));
    }
}
