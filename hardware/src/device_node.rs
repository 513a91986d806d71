//! Whether a device node is what it is called after.
//!
//! Something else may be in its place. A container that was given `/dev/xpmem` on a host without the module leaves a directory
//! there: the runtime makes one for a mount that has no source. A program that takes it for the node has containers fail with
//! "not a device node".

use std::{fs, io, os::unix::fs::FileTypeExt as _, path::Path};

/// What is at the place of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceNode {
    /// A character or block device, or a link to one.
    Present,
    /// Nothing.
    Absent,
    /// Something that is no device node: a directory, a file.
    Other,
}

impl DeviceNode {
    /// What is at `path`.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn at(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(found) if found.file_type().is_char_device() || found.file_type().is_block_device() => Ok(Self::Present),
            Ok(_) => Ok(Self::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Absent),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_is_a_device_node() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("/dev/full", at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        for (path, expected) in [
            ("/dev/full".into(), DeviceNode::Present),
            (at("link"), DeviceNode::Present),
            (directory.path().to_owned(), DeviceNode::Other),
            (at("file"), DeviceNode::Other),
            (at("dangling"), DeviceNode::Absent),
            (at("none"), DeviceNode::Absent),
        ] {
            assert_eq!(DeviceNode::at(&path).unwrap(), expected, "{}", path.display());
        }
        assert!(DeviceNode::at(&at("file/below")).is_err());
    }
}
