//! What builds leave in the storage of images, and how it is taken away again.
//!
//! A build leaves the images of its steps, which the next one takes up where nothing changed, and, when it was killed, the
//! containers that it worked in. Neither has a name. Who works in a storage holds a lock on it; what no build needs is removed
//! only while no process works there.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    process::Stdio,
    time::SystemTime,
};

use cxi_driver_image_format::containerfile::{LABEL_PREFIX, STAGE_LABEL};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    buildah::{Buildah, Failed},
    error::{Attempt, Error, Result},
};

/// So many unfinished ends of builds stay for the next build to go on from: those of two or three runs with all distributions,
/// about 5 GB.
pub const KEPT_STAGES: usize = 24;

/// The lock's file, in the storage itself, so that everybody who uses it finds the same one.
const LOCK: &str = "cxi-driver-image.lock";

/// A process works in the storage. Until this is dropped, and until every build that it began has ended, nothing is removed
/// from it but by name.
#[derive(Debug)]
pub struct Use {
    buildah: Buildah,
    lock: File,
}

impl Use {
    /// Begins to work in a storage. The first one there removes what earlier builds left, see [`KEPT_STAGES`].
    ///
    /// # Errors
    /// If buildah is missing, or the storage cannot be locked.
    pub fn begin(buildah: &Buildah) -> Result<Self> {
        let place = Place::of(buildah)?;
        let lock = place.lock_file()?;
        if place.try_alone(&lock)? {
            remove(buildah, &place, KEPT_STAGES)?;
        }
        lock.lock_shared().attempt(|| format!("lock {}", place.lock().display()))?;
        Ok(Self { buildah: buildah.clone(), lock })
    }

    /// Runs a build, with its output in `log`. The arguments have `--layers` or `--no-cache`: buildah removes the container of a
    /// build that fails with one of them only.
    ///
    /// # Errors
    /// If buildah cannot be started or the log cannot be written. A build that fails is no error here.
    pub fn build(&self, arguments: &[String], log: &Path, told: &dyn Fn(&str)) -> Result<Result<(), Failed>> {
        self.buildah.build(arguments, log, self.stdin()?, told)
    }

    /// An empty input for a program, which holds the lock for as long as it runs, even when this process was killed.
    ///
    /// # Errors
    /// If too many files are open.
    pub fn stdin(&self) -> Result<Stdio> {
        Ok(self.lock.try_clone().attempt(|| "hand on the storage's lock".to_owned())?.into())
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Containers that builds were killed in.
    pub containers: usize,
    /// Images of steps, without those below them that went along.
    pub images: usize,
    /// Free space of the file system before, in bytes.
    pub free_before: u64,
    /// Free space of the file system after it.
    pub free_after: u64,
}

/// Removes what builds left, but the newest `keep` images that a build could go on from.
///
/// # Errors
/// If builds are going on, or something cannot be removed.
pub fn prune(buildah: &Buildah, keep: usize) -> Result<Pruned> {
    let place = Place::of(buildah)?;
    let lock = place.lock_file()?;
    if !place.try_alone(&lock)? {
        let root = place.root.display();
        return Err(Error::Input(format!(
            "builds are going on in {root}: wait for their end, or end them, and try again"
        )));
    }
    let free_before = place.free()?;
    let (containers, images) = remove(buildah, &place, keep)?;
    Ok(Pruned { containers, images, free_before, free_after: place.free()? })
}

/// Where a storage is, and whose.
struct Place {
    root: PathBuf,
    /// How layers are kept: overlay, or vfs where a user who is not root has nothing better.
    driver: String,
    /// Nothing is in it but what this pipeline made.
    ours: bool,
}

impl Place {
    fn of(buildah: &Buildah) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Store {
            graph_root: PathBuf,
            graph_driver_name: String,
        }
        #[derive(Deserialize)]
        struct Info {
            store: Store,
        }
        let info: Info = told(buildah, &["info"])?;
        let Store { graph_root: root, graph_driver_name: driver } = info.store;
        Ok(Self { root, driver, ours: buildah.storage.is_some() })
    }

    fn lock(&self) -> PathBuf {
        self.root.join(LOCK)
    }

    fn lock_file(&self) -> Result<File> {
        let path = self.lock();
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        options.open(&path).attempt(|| format!("open the lock file {}", path.display()))
    }

    /// Whether no other process works here, and none can begin to as long as the lock is held.
    fn try_alone(&self, lock: &File) -> Result<bool> {
        match lock.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => {
                Err(Error::Io { attempt: format!("lock {}", self.lock().display()), source })
            }
        }
    }

    /// When an image came into the storage. The date that is in it is the one that it was given.
    fn made(&self, id: &str) -> SystemTime {
        let path = self.root.join(format!("{}-images", self.driver)).join(id);
        fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn free(&self) -> Result<u64> {
        let space = rustix::fs::statvfs(&self.root)
            .map_err(Into::into)
            .attempt(|| format!("ask for the free space of {}", self.root.display()))?;
        Ok(space.f_bavail * space.f_frsize)
    }
}

#[derive(Deserialize)]
struct Container {
    id: String,
    #[serde(rename = "imageid")]
    image: String,
}

#[derive(Deserialize)]
struct Unnamed {
    id: String,
}

/// Removes containers that builds left, and unnamed images but the newest `keep` ends: how many of each.
fn remove(buildah: &Buildah, place: &Place, keep: usize) -> Result<(usize, usize)> {
    let containers: Vec<Container> = told(buildah, &["containers", "--json"])?;
    let of_ours = if place.ours { HashSet::new() } else { ours(buildah, "--all")? };
    let left = containers.into_iter().filter(|container| place.ours || of_ours.contains(&container.image));
    let left: Vec<String> = left.map(|container| container.id).collect();
    call(buildah, &["rm"], &left)?;

    // What has no name and nothing is made on: the ends of builds. What an end was made on goes with it, unless another end
    // was made on it too.
    let ends = if place.ours {
        let all: Vec<Unnamed> = told(buildah, &["images", "--filter", "dangling=true", "--json", "--no-trunc"])?;
        all.into_iter().map(|image| bare(&image.id)).collect()
    } else {
        ours(buildah, "--filter=dangling=true")?
    };
    let mut ends: Vec<(SystemTime, String)> = ends.into_iter().map(|id| (place.made(&id), id)).collect();
    ends.sort();
    ends.truncate(ends.len().saturating_sub(keep));
    let ends: Vec<String> = ends.into_iter().map(|(_, id)| id).collect();
    call(buildah, &["rmi"], &ends)?;
    Ok((left.len(), ends.len()))
}

/// Images with a label of the pipeline, of the stages of builds or of driver images.
fn ours(buildah: &Buildah, option: &str) -> Result<HashSet<String>> {
    let mut all = HashSet::new();
    for label in [STAGE_LABEL.to_owned(), format!("{LABEL_PREFIX}kernel")] {
        let filter = format!("label={label}");
        let images: Vec<Unnamed> = told(buildah, &["images", option, "--filter", &filter, "--json", "--no-trunc"])?;
        all.extend(images.into_iter().map(|image| bare(&image.id)));
    }
    Ok(all)
}

/// An id without its algorithm, as the storage has it.
fn bare(id: &str) -> String {
    id.trim_start_matches("sha256:").to_owned()
}

/// Calls buildah with so many names that no command line is too long.
fn call(buildah: &Buildah, task: &[&str], names: &[String]) -> Result<()> {
    for some in names.chunks(100) {
        buildah.run(task.iter().copied().chain(some.iter().map(String::as_str)))?;
    }
    Ok(())
}

/// What buildah prints, which is JSON; `null` is nothing.
fn told<T: DeserializeOwned>(buildah: &Buildah, arguments: &[&str]) -> Result<T> {
    let text = buildah.run(arguments.iter().copied())?;
    let text = if text.trim() == "null" || text.trim().is_empty() { "[]" } else { &text };
    serde_json::from_str(text).map_err(|error| {
        Error::Input(format!("`buildah {}` prints what cannot be understood: {error}", arguments.join(" ")))
    })
}
