//! The stand-in driver, built for a kernel and laid out as in a driver image; and the NICs that it drives.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use cxi_control_plane::{Progress, cache};
use serde_json::json;

use crate::{
    error::{Attempt, Error, Result},
    kernel::Kernel,
    program,
};

/// The trees that hold modules, in the order in which they are built.
const TREES: [&str; 3] = ["cray-slingshot-base-link", "sl-driver", "cray-cxi-driver"];

/// A firmware file that is in every image, below `opt/lib/firmware`.
pub const FIRMWARE: &str = "cxi/stand-in.bin";

/// What a driver image for one kernel holds.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Its release.
    pub release: String,
    root: PathBuf,
}

impl Driver {
    /// The stand-in driver of `release` for `kernel`, from the cache or built, some ten seconds.
    ///
    /// # Errors
    /// When it cannot be built; [`Error::Missing`] without a compiler or make.
    pub fn stand_in(kernel: &Kernel, release: &str, progress: &Progress) -> Result<Self> {
        let root = built(kernel, &format!("driver-{release}"), progress, |place| build_driver(kernel, release, place))?;
        Ok(Self { release: release.to_owned(), root })
    }

    /// The directory that is the root of the image: `opt/lib/modules/<kernel>/`, `opt/cxi/manifest.json`, `opt/lib/firmware/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of its modules.
    pub fn modules(&self, kernel: &Kernel) -> PathBuf {
        self.root.join("opt/lib/modules").join(&kernel.release)
    }
}

/// The module that adds NICs to a machine that has none.
///
/// # Errors
/// As for [`Driver::stand_in`].
pub fn nics(kernel: &Kernel, progress: &Progress) -> Result<PathBuf> {
    let place = built(kernel, "nics", progress, |place| {
        let work = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
        let tree = work.path().join("nics");
        program::output(Command::new("cp").arg("-r").arg(source().join("nics")).arg(&tree))?;
        make(kernel, &tree, &[])?;
        strip(&tree.join("cxi-nics.ko"), &place.join("cxi-nics.ko"))
    })?;
    Ok(place.join("cxi-nics.ko"))
}

/// Where the sources are.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../driver-images/stand-in")
}

/// Something built from the sources for `kernel`, in the cache under a name that has their hash.
fn built(kernel: &Kernel, what: &str, progress: &Progress, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let mut parts =
        vec![include_bytes!("driver.rs").to_vec(), kernel.headers().as_os_str().as_encoded_bytes().to_vec()];
    contents(&source(), &mut parts)?;
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let place =
        cache::directory()?.join("guest/built").join(format!("{what}-{}-{}", kernel.release, cache::key(&parts)));
    if place.is_dir() {
        return Ok(place);
    }
    let _lock = cache::Lock::acquire(&place, progress)?;
    if place.is_dir() {
        return Ok(place);
    }
    program::need("make", "make")?;
    program::need("gcc", "gcc")?;
    let step = progress.step(&format!("building the stand-in's {what} for {}", kernel.release));
    let parent = place.parent().unwrap_or(&place);
    let unfinished = tempfile::tempdir_in(parent).attempt(|| format!("create a directory in {}", parent.display()))?;
    build(unfinished.path())?;
    let unfinished = unfinished.keep();
    fs::rename(&unfinished, &place).attempt(|| format!("move {what} into the cache"))?;
    step.done();
    Ok(place)
}

/// Names and contents of all files below `directory`.
fn contents(directory: &Path, parts: &mut Vec<Vec<u8>>) -> Result<()> {
    let list = || format!("list {}", directory.display());
    let entries = fs::read_dir(directory).attempt(list)?.collect::<std::io::Result<Vec<_>>>();
    let mut paths: Vec<_> = entries.attempt(list)?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            contents(&path, parts)?;
        } else if path.extension() != Some(OsStr::new("md")) {
            parts.push(path.as_os_str().as_encoded_bytes().to_vec());
            parts.push(fs::read(&path).attempt(|| format!("read {}", path.display()))?);
        }
    }
    Ok(())
}

fn build_driver(kernel: &Kernel, release: &str, place: &Path) -> Result<()> {
    let work = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
    let work = work.path();
    program::output(Command::new(source().join("generate")).arg(release).arg(work))?;
    let tree = |name: &str| work.join(format!("{name}-{release}"));
    let [link, serdes, driver] = TREES.map(tree);
    make(kernel, &link, &[])?;
    make(kernel, &serdes, &[])?;
    let symbols = [&link, &serdes].map(|tree| tree.join("Module.symvers").display().to_string()).join(" ");
    make(
        kernel,
        &driver,
        &[
            format!("SBL_DIR={}", link.display()),
            format!("SL_DIR={}", serdes.display()),
            format!("KBUILD_EXTRA_SYMBOLS={symbols}"),
        ],
    )?;
    let modules = place.join("opt/lib/modules").join(&kernel.release);
    let extra = modules.join("extra");
    create(&extra)?;
    let mut manifest = Vec::new();
    for tree in [&link, &serdes, &driver] {
        for file in modules_in(tree)? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            strip(&file, &extra.join(format!("{name}.ko")))?;
            manifest.push(json!({"name": name.replace('-', "_"), "buildID": build_id(&file)?}));
        }
    }
    depmod(kernel, place, &modules)?;
    let manifest = json!({"driverVersion": release, "kernel": kernel.release, "modules": manifest});
    write(&place.join("opt/cxi/manifest.json"), &format!("{manifest:#}\n"))?;
    write(&place.join("opt/lib/firmware").join(FIRMWARE), &format!("firmware of {release}\n"))
}

/// Builds the modules of a source tree as DKMS would have it done.
fn make(kernel: &Kernel, tree: &Path, variables: &[String]) -> Result<()> {
    let mut make = Command::new("make");
    make.arg("-s").arg(jobs()).arg("-C").arg(kernel.headers()).arg(format!("M={}", tree.display())).args(variables);
    // Type information for tracing needs a program more and serves nobody here.
    program::output(make.args(["CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"])).map(drop)
}

/// As many jobs as there are processors.
fn jobs() -> String {
    format!("-j{}", std::thread::available_parallelism().map_or(1, usize::from))
}

fn modules_in(tree: &Path) -> Result<Vec<PathBuf>> {
    let list = || format!("list {}", tree.display());
    let entries = fs::read_dir(tree).attempt(list)?.collect::<std::io::Result<Vec<_>>>().attempt(list)?;
    let mut files: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("ko")));
    files.sort();
    Ok(files)
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    program::output(Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(from)).map(drop)
}

/// The GNU build-id of a module's file.
fn build_id(file: &Path) -> Result<String> {
    let printed = program::output(Command::new("readelf").arg("--notes").arg(file))?;
    let id = printed.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    id.map(str::to_owned).ok_or_else(|| Error::Unexpected {
        what: format!("what readelf says of {}", file.display()),
        why: "no build-id".into(),
    })
}

/// Lists the modules and what they depend on, the kernel's own among them: those are found through a link that leads to the
/// node's modules where KMM has them.
fn depmod(kernel: &Kernel, place: &Path, modules: &Path) -> Result<()> {
    let own = modules_in(&modules.join("extra"))?;
    let host = modules.join("host");
    create(&host)?;
    for file in &own {
        let needed = program::output(Command::new("modinfo").args(["-F", "depends"]).arg(file))?;
        for needed in needed.trim().split(',').filter(|needed| !needed.is_empty()) {
            let is_own = |file: &PathBuf| {
                file.file_stem()
                    .is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == needed.replace('-', "_"))
            };
            if own.iter().any(is_own) {
                continue;
            }
            for file in kernel.module(needed)? {
                let link = host.join(&file);
                create(link.parent().unwrap_or(&host))?;
                if !link.exists() {
                    symlink(kernel.modules().join(&file), &link).attempt(|| format!("link {}", link.display()))?;
                }
            }
        }
    }
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        write(&modules.join(list), "")?;
    }
    let mut depmod = Command::new(program::need("depmod", "kmod")?);
    program::output(depmod.arg("-b").arg(place.join("opt")).arg(&kernel.release))?;
    fs::remove_dir_all(&host).attempt(|| format!("remove {}", host.display()))?;
    let target = Path::new("/lib/modules").join(&kernel.release);
    symlink(target, &host).attempt(|| format!("link {}", host.display()))
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).attempt(|| format!("create {}", directory.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    create(file.parent().unwrap_or(file))?;
    fs::write(file, text).attempt(|| format!("write {}", file.display()))
}
