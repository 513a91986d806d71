//! Images as they were built: archives of the form of the Open Container Initiative (image-spec, `image-layout.md`).

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::digest::Digest;

/// What an image may weigh unpacked, in bytes: 20 MiB.
pub const MAX_BYTES: u64 = 20 << 20;

/// What is in an archive of one image.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Architecture, as in `amd64`.
    pub architecture: String,
    /// User and group that it runs as.
    pub user: String,
    /// What it runs.
    pub entrypoint: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Files in all layers.
    pub files: Vec<File>,
    compressed: u64,
}

/// A file in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path without slash in front.
    pub path: String,
    /// As `ls` shows it: `-r-xr-xr-x`.
    pub mode: String,
    /// Owner and group: `0/0`.
    pub owner: String,
    /// Bytes.
    pub size: u64,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not there.
    #[error("there is no image {0}")]
    Missing(PathBuf),
    /// tar cannot be run.
    #[error("cannot run tar")]
    Tar(#[source] io::Error),
    /// A part is missing.
    #[error("cannot take {part} out of {archive}: {said}")]
    Part {
        /// What.
        part: String,
        /// Of which.
        archive: PathBuf,
        /// What tar said.
        said: String,
    },
    /// A part is not what it should be.
    #[error("{part} of {archive} is not what the image-spec says")]
    Json {
        /// What.
        part: String,
        /// Of which.
        archive: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It has no image, or several.
    #[error("{0} has not one image")]
    NotOne(PathBuf),
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Configuration {
    architecture: String,
    config: Settings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    #[serde(default)]
    user: String,
    #[serde(default)]
    entrypoint: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Archive {
    /// Reads one, by means of `tar`.
    ///
    /// # Errors
    /// When it is missing or not an archive of one image.
    pub fn read(path: &Path) -> Result<Self, ArchiveError> {
        if !path.is_file() {
            return Err(ArchiveError::Missing(path.to_owned()));
        }
        let index: Index = json(path, "index.json")?;
        let [Descriptor { digest, .. }] = index.manifests.as_slice() else {
            return Err(ArchiveError::NotOne(path.to_owned()));
        };
        let manifest: Manifest = json(path, &blob(digest))?;
        let Configuration { architecture, config } = json(path, &blob(&manifest.config.digest))?;
        let mut files = Vec::new();
        for layer in &manifest.layers {
            files.extend(list(path, &blob(&layer.digest))?);
        }
        Ok(Self {
            digest: digest.clone(),
            architecture,
            user: config.user,
            entrypoint: config.entrypoint,
            labels: config.labels,
            files,
            compressed: manifest.layers.iter().map(|layer| layer.size).sum(),
        })
    }

    /// Bytes of all files.
    pub fn unpacked(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Bytes that a registry keeps and a node pulls.
    pub fn compressed(&self) -> u64 {
        self.compressed
    }

    /// The commit that it is of; empty if it does not say.
    pub fn revision(&self) -> &str {
        self.labels.get("org.opencontainers.image.revision").map_or("", String::as_str)
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replace(':', "/"))
}

fn json<T: DeserializeOwned>(archive: &Path, part: &str) -> Result<T, ArchiveError> {
    let bytes = tar(archive, part, Command::new("tar").args(["-xOf"]).arg(archive).arg(part))?;
    serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Json {
        part: part.to_owned(),
        archive: archive.to_owned(),
        source,
    })
}

/// Files of a layer, which lies compressed in the archive.
fn list(archive: &Path, part: &str) -> Result<Vec<File>, ArchiveError> {
    const LIST: &str = r#"tar -xOf "$0" "$1" | tar --numeric-owner -tvzf -"#;
    let bytes = tar(archive, part, Command::new("sh").args(["-c", LIST]).arg(archive).arg(part).env("LC_ALL", "C"))?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(file).collect())
}

/// A line of `tar -tv`: mode, owner, size, date, time, path. Directories are left out.
fn file(line: &str) -> Option<File> {
    let mut words = line.split_whitespace();
    let [mode, owner, size] = [words.next()?, words.next()?, words.next()?];
    let path = words.nth(2)?;
    let file = || File {
        path: path.trim_start_matches("./").to_owned(),
        mode: mode.to_owned(),
        owner: owner.to_owned(),
        size: size.parse().unwrap_or_default(),
    };
    (!mode.starts_with('d')).then(file)
}

fn tar(archive: &Path, part: &str, command: &mut Command) -> Result<Vec<u8>, ArchiveError> {
    let output = command.output().map_err(ArchiveError::Tar)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ArchiveError::Part { part: part.to_owned(), archive: archive.to_owned(), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_tar_lists() {
        assert_eq!(file("drwxr-xr-x 0/0               0 2026-01-01 00:00 usr/bin/"), None);
        let line = "-r-xr-xr-x 0/0         1234567 2026-01-01 00:00 ./usr/bin/cxi-agent";
        let wanted =
            File { path: "usr/bin/cxi-agent".into(), mode: "-r-xr-xr-x".into(), owner: "0/0".into(), size: 1_234_567 };
        assert_eq!(file(line), Some(wanted));
    }

    #[test]
    fn says_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tar");
        assert!(matches!(Archive::read(&path), Err(ArchiveError::Missing(_))));
        std::fs::write(&path, "no archive").unwrap();
        assert!(matches!(Archive::read(&path), Err(ArchiveError::Part { .. })));
    }
}
