//! Whether this process may do what it is for: said at the start, where an administrator looks for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cxi_hardware::Root;

/// Something that the process needs is not there for it.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// sysfs is not where it should be.
    #[error(
        "no sysfs at {}: {source}; mount the host's /sys there and say so with SYSFS_ROOT (--sysfs-root)",
        path.display()
    )]
    Sysfs {
        /// What was looked at.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The device nodes cannot be seen.
    #[error(
        "no device nodes at {}: {source}; mount the host's /dev there and say so with DEVFS_ROOT (--devfs-root)",
        path.display()
    )]
    Devfs {
        /// What was looked at.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The kubelet's directory cannot be used.
    #[error(
        "the kubelet's device plugin directory {} cannot be written: {source}; mount the host's there, writable, and \
        run as root: it belongs to root (--device-plugin-dir, KUBELET_DEVICE_PLUGIN_DIR)",
        path.display()
    )]
    Plugins {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

/// Whether NICs can be looked for under `root`. A driver that is not loaded is no error.
///
/// # Errors
/// When sysfs or the device nodes are not there, which would look like a node without NICs.
pub fn node(root: &Root) -> Result<(), AccessError> {
    let class = root.sys().join("class");
    fs::read_dir(&class).map_err(|source| AccessError::Sysfs { path: class, source })?;
    let dev = root.dev();
    fs::read_dir(dev).map_err(|source| AccessError::Devfs { path: dev.into(), source })?;
    Ok(())
}

/// Whether a socket can be made in the kubelet's directory.
///
/// # Errors
/// When it cannot.
pub fn plugins(directory: &Path) -> Result<(), AccessError> {
    // Trying is the only honest answer: permissions say nothing about a read-only mount or a security module.
    fs::read_dir(directory)
        .and_then(|_| tempfile::Builder::new().prefix(".cxi-").tempfile_in(directory))
        .map(drop)
        .map_err(|source| AccessError::Plugins { path: directory.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing_and_what_helps() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        let root = Root::new(at("sys"), at("dev"));
        fs::create_dir_all(at("sys")).unwrap();
        assert!(node(&root).unwrap_err().to_string().contains("SYSFS_ROOT"));
        fs::create_dir_all(at("sys/class")).unwrap();
        assert!(node(&root).unwrap_err().to_string().contains("DEVFS_ROOT"));
        fs::write(at("dev"), "").unwrap();
        assert!(node(&root).is_err());
        fs::remove_file(at("dev")).unwrap();
        fs::create_dir(at("dev")).unwrap();
        node(&root).unwrap();
        assert!(plugins(&at("plugins")).unwrap_err().to_string().contains("--device-plugin-dir"));
        fs::create_dir(at("plugins")).unwrap();
        plugins(&at("plugins")).unwrap();
        // Not even root can make a file here.
        let error = plugins(Path::new("/proc/self/fdinfo")).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
    }
}
