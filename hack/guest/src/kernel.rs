//! Kernels of Debian: the newest of a line and flavour, with its modules and with what building modules for it needs.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cxi_control_plane::{Progress, cache};
use serde::{Deserialize, Serialize};

use crate::{
    debian::{Archive, Package},
    error::{Attempt, Error, Result},
};

/// How long it is believed which kernel is the newest. Afterwards Debian is asked again, if it can be.
const BELIEVED: Duration = Duration::from_hours(24);

/// A line of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    /// Debian 12's own.
    V6_1,
    /// The newer one.
    V6_12,
}

/// How a kernel is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// For any machine.
    Generic,
    /// For virtual machines.
    Cloud,
    /// With real-time scheduling.
    RealTime,
}

/// A kernel and where its files are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// What `uname -r` prints.
    pub release: String,
    image: PathBuf,
    headers: PathBuf,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        })
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "amd64",
            Self::Cloud => "cloud-amd64",
            Self::RealTime => "rt-amd64",
        })
    }
}

impl Kernel {
    /// The newest kernel of `line` and `flavour`, from the cache or from Debian. Asks Debian at most once a day; what is in
    /// the cache will do while Debian cannot be reached.
    ///
    /// # Errors
    /// [`Error::Missing`] when Debian cannot be reached and nothing is in the cache.
    pub fn ensure(line: Line, flavour: Flavour, progress: &Progress) -> Result<Self> {
        let kernels = cache::directory()?.join("guest/kernels");
        let name = format!("{line}-{flavour}");
        let record = kernels.join(format!("{name}.json"));
        let _lock = cache::Lock::acquire(&kernels.join("all"), progress)?;
        let known = Self::read(&record);
        if let Some((kernel, age)) = &known
            && *age < BELIEVED
        {
            return Ok(kernel.clone());
        }
        match Self::fetch(line, flavour, &kernels, progress) {
            Ok(kernel) => {
                let json = serde_json::to_vec_pretty(&kernel)
                    .map_err(|error| Error::Unexpected { what: format!("kernel {name}"), why: error.to_string() })?;
                fs::write(&record, json).attempt(|| format!("write {}", record.display()))?;
                Ok(kernel)
            }
            Err(Error::Missing(why)) if let Some((kernel, _)) = known => {
                progress.note(&format!("taking kernel {} from the cache: {why}", kernel.release));
                Ok(kernel)
            }
            Err(error) => Err(error),
        }
    }

    /// What is in the cache, and since when.
    fn read(record: &Path) -> Option<(Self, Duration)> {
        let kernel: Self = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
        let complete = kernel.vmlinuz().is_file() && kernel.modules().is_dir() && kernel.headers().is_dir();
        let written = fs::metadata(record).and_then(|metadata| metadata.modified()).ok()?;
        let age = SystemTime::now().duration_since(written).unwrap_or(Duration::MAX);
        complete.then_some((kernel, age))
    }

    fn fetch(line: Line, flavour: Flavour, kernels: &Path, progress: &Progress) -> Result<Self> {
        let archive = Archive::update(progress)?;
        // Packages without content that depend on the newest: linux-image-cloud-amd64, linux-image-6.12-amd64.
        let newest = match line {
            Line::V6_1 => format!("linux-image-{flavour}"),
            Line::V6_12 => format!("linux-image-{line}-{flavour}"),
        };
        let dependencies = archive.dependencies(&newest)?;
        let release = dependencies.iter().find_map(|name| name.strip_prefix("linux-image-"));
        let Some(release) = release.map(str::to_owned) else {
            return Err(Error::Unexpected { what: format!("what {newest} depends on"), why: "no kernel".into() });
        };
        let step = progress.step(&format!("fetching kernel {release}"));
        let image = archive.package(&format!("linux-image-{release}"))?;
        let image = unpacked(&archive, &[image], kernels, &release, |_| Ok(()))?;
        // The headers of a build, those of all builds of the version, and the programs. Not the compiler, and not the
        // kernel, on which the newer headers depend.
        let headers = format!("linux-headers-{release}");
        let parts = archive.dependencies(&headers)?.into_iter();
        let parts = parts.filter(|name| name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-"));
        let names: Vec<String> = parts.chain([headers.clone()]).collect();
        let packages: Vec<Package> = names.iter().map(|name| archive.package(name)).collect::<Result<_>>()?;
        let headers = unpacked(&archive, &packages, kernels, &headers, |target| {
            let makefile = target.unfinished.join("usr/src").join(&headers).join("Makefile");
            let text = fs::read_to_string(&makefile).attempt(|| format!("read {}", makefile.display()))?;
            // It includes the one of all builds by its absolute path.
            let text = text.replace(" /usr/src/", &format!(" {}/usr/src/", target.place.display()));
            fs::write(&makefile, text).attempt(|| format!("write {}", makefile.display()))
        })?;
        step.done();
        Ok(Self { release, image, headers })
    }

    /// The kernel itself.
    pub fn vmlinuz(&self) -> PathBuf {
        self.image.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The directory with its modules, `/lib/modules/<release>` on a machine that runs it.
    pub fn modules(&self) -> PathBuf {
        self.image.join("lib/modules").join(&self.release)
    }

    /// The directory in which modules for it are built, `/lib/modules/<release>/build` on a machine that has it.
    pub fn headers(&self) -> PathBuf {
        self.headers.join("usr/src").join(format!("linux-headers-{}", self.release))
    }

    /// A module and what it needs, each by its path below [`Kernel::modules`], dependencies first.
    ///
    /// # Errors
    /// When there is no such module, not even built in: for one that is, the list is empty.
    pub fn module(&self, name: &str) -> Result<Vec<PathBuf>> {
        let read = |file: &str| {
            let path = self.modules().join(file);
            fs::read_to_string(&path).attempt(|| format!("read {}", path.display()))
        };
        let built_in = read("modules.builtin")?;
        if built_in.lines().any(|path| is_module(path, name)) {
            return Ok(Vec::new());
        }
        // modules.dep is made when a kernel is installed, which this one is not; modules.order names all modules.
        let all = read("modules.order")?;
        let path = all.lines().find(|path| is_module(path, name));
        let Some(path) = path else {
            return Err(Error::NoModule { kernel: self.release.clone(), module: name.to_owned() });
        };
        let file = self.existing(Path::new(path))?;
        let needed = crate::program::output(
            std::process::Command::new(crate::program::need("modinfo", "kmod")?)
                .args(["-F", "depends"])
                .arg(self.modules().join(&file)),
        )?;
        let mut files = Vec::new();
        for needed in needed.trim().split(',').filter(|needed| !needed.is_empty()) {
            for file in self.module(needed)? {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        files.push(file);
        Ok(files)
    }

    /// The file of a module, which may be compressed.
    fn existing(&self, path: &Path) -> Result<PathBuf> {
        let base = path.with_extension("ko");
        let base = base.display();
        [String::new(), ".xz".into(), ".zst".into()]
            .into_iter()
            .map(|ending| PathBuf::from(format!("{base}{ending}")))
            .find(|file| self.modules().join(file).is_file())
            .ok_or_else(|| Error::NoModule { kernel: self.release.clone(), module: path.display().to_string() })
    }
}

/// Whether a line of a list of modules is that of `name`, in either spelling.
fn is_module(path: &str, name: &str) -> bool {
    let stem = path.rsplit('/').next().unwrap_or(path).split('.').next().unwrap_or_default();
    stem.replace('-', "_") == name.replace('-', "_")
}

/// A directory that is being filled, and where it will be.
struct Target<'a> {
    unfinished: &'a Path,
    place: &'a Path,
}

/// The contents of `packages` in a directory of the cache whose name has their hashes.
fn unpacked(
    archive: &Archive,
    packages: &[Package],
    kernels: &Path,
    name: &str,
    adapt: impl FnOnce(&Target<'_>) -> Result<()>,
) -> Result<PathBuf> {
    let hashes: Vec<&[u8]> = packages.iter().map(|package| package.hash.as_bytes()).collect();
    let place = kernels.join(format!("{name}-{}", cache::key(&hashes)));
    if !place.is_dir() {
        let unfinished =
            tempfile::tempdir_in(kernels).attempt(|| format!("create a directory in {}", kernels.display()))?;
        archive.unpack(packages, unfinished.path())?;
        adapt(&Target { unfinished: unfinished.path(), place: &place })?;
        let unfinished = unfinished.keep();
        fs::rename(&unfinished, &place).attempt(|| format!("move {name} into the cache"))?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_in_either_spelling() {
        assert!(is_module("kernel/drivers/net/virtio_net.ko", "virtio-net"));
        assert!(is_module("kernel/drivers/a/cxi-ss1.ko.xz", "cxi_ss1"));
        assert!(!is_module("kernel/drivers/net/virtio_net.ko", "virtio"));
    }
}
