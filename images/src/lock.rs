//! `images.lock`: where the images of this release are, and their digests.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, image::Image};

/// Name of the file, in the root of the repository.
pub const FILE: &str = "images.lock";

/// The images of one release. JSON; `cargo xtask images push` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    #[serde(rename = "cxi-operator")]
    operator: Entry,
    #[serde(rename = "cxi-device-plugin")]
    device_plugin: Entry,
    #[serde(rename = "cxi-agent")]
    agent: Entry,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where it is published, without tag: `ghcr.io/cxi-operator/cxi-agent`.
    pub repository: String,
    /// The release, which is also the tag.
    pub version: String,
    /// What was published. Absent until it was.
    pub digest: Option<Digest>,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// The file cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// The text is not a lock.
    #[error("{0} is no lock of images")]
    Parse(PathBuf, #[source] serde_json::Error),
}

impl Entry {
    /// How a manifest names the image: by digest if there is one, else by tag.
    pub fn reference(&self) -> String {
        self.by_digest().unwrap_or_else(|| self.by_tag())
    }

    /// By digest, if it was published.
    pub fn by_digest(&self) -> Option<String> {
        self.digest.as_ref().map(|digest| format!("{}@{digest}", self.repository))
    }

    /// By tag.
    pub fn by_tag(&self) -> String {
        format!("{}:{}", self.repository, self.version)
    }
}

impl Lock {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is missing or says something else than the images that there are.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let text = fs::read_to_string(path).map_err(|error| LockError::Read(path.to_owned(), error))?;
        serde_json::from_str(&text).map_err(|error| LockError::Parse(path.to_owned(), error))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| LockError::Parse(path.to_owned(), error))?;
        fs::write(path, text + "\n").map_err(|error| LockError::Write(path.to_owned(), error))
    }

    /// The entry of an image.
    pub fn entry(&self, image: Image) -> &Entry {
        match image {
            Image::Operator => &self.operator,
            Image::DevicePlugin => &self.device_plugin,
            Image::Agent => &self.agent,
        }
    }

    /// The same, to be changed.
    pub fn entry_mut(&mut self, image: Image) -> &mut Entry {
        match image {
            Image::Operator => &mut self.operator,
            Image::DevicePlugin => &mut self.device_plugin,
            Image::Agent => &mut self.agent,
        }
    }

    /// Every image with its entry.
    pub fn entries(&self) -> impl Iterator<Item = (Image, &Entry)> {
        Image::ALL.into_iter().map(|image| (image, self.entry(image)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Lock {
        Lock::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FILE)).unwrap()
    }

    #[test]
    fn the_committed_lock_is_of_this_release() {
        for (image, entry) in committed().entries() {
            assert_eq!(entry.version, env!("CARGO_PKG_VERSION"), "{image}");
            assert!(entry.repository.ends_with(&format!("/{image}")), "{}", entry.repository);
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_names_by_digest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mut lock = committed();
        let entry = lock.entry_mut(Image::Agent);
        entry.repository = "registry.example.com/cxi-agent".into();
        entry.digest = None;
        assert_eq!(entry.reference(), format!("registry.example.com/cxi-agent:{}", entry.version));
        let digest = format!("sha256:{}", "0f".repeat(32));
        entry.digest = Some(digest.parse().unwrap());
        assert_eq!(entry.reference(), format!("registry.example.com/cxi-agent@{digest}"));
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
    }

    #[test]
    fn says_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        assert!(matches!(Lock::read(&path), Err(LockError::Read(..))));
        let mut lock = committed();
        lock.entry_mut(Image::Operator).digest = None;
        let text = serde_json::to_string(&lock).unwrap();
        for wrong in [text.replacen("cxi-agent", "cxi-agnet", 1), text.replacen("null", "\"latest\"", 1)] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(Lock::read(&path), Err(LockError::Parse(..))));
        }
    }
}
