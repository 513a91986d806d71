//! What is inside an image, read from its layers; neither a mount nor root is needed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use cxi_driver_image_format::manifest::MANIFEST_PATH;
use serde_json::Value;

use crate::{
    buildah::{Buildah, said},
    elf::{self, ModuleFile, NotAModule},
    error::{Attempt, Error, Result},
    symvers::{self, Symbols},
    tree,
};

/// Where modules lie, below which there is a directory per kernel.
const MODULES: &str = "opt/lib/modules";

/// Where firmware lies in the images that this pipeline makes.
pub const FIRMWARE: &str = "/opt/lib/firmware";

/// Programs that KMM calls in a driver image.
pub const PROGRAMS: [&str; 3] = ["sh", "mkdir", "cp"];

/// What is inside a driver image.
#[derive(Debug, Default)]
pub struct Contents {
    /// Text of the manifest, if there is one.
    pub manifest: Option<String>,
    /// By kernel directory, the module files below it: path below that directory, and what the file says.
    pub kernels: BTreeMap<String, BTreeMap<String, Module>>,
    /// Text of each kernel's `modules.dep`.
    pub dependencies: BTreeMap<String, String>,
    /// The kernel's symbols that the modules were built against, as the image tells.
    pub kernel_symbols: Option<Symbols>,
    /// Firmware files, below [`FIRMWARE`].
    pub firmware: Vec<String>,
    /// Those of [`PROGRAMS`] that are there.
    pub programs: Vec<&'static str>,
}

/// A module's file.
#[derive(Debug)]
pub struct Module {
    /// SHA-256 without an appended signature.
    pub sha256: String,
    /// What it says.
    pub file: Result<ModuleFile, NotAModule>,
}

/// Reads an image of the storage.
///
/// # Errors
/// If it cannot be read.
pub fn image(buildah: &Buildah, image: &str) -> Result<Contents> {
    let root = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
    extract(buildah, image, root.path())?;
    directory(root.path())
}

/// Writes an image's files to a directory.
///
/// # Errors
/// If it cannot be read or written.
pub fn extract(buildah: &Buildah, image: &str, root: &Path) -> Result<()> {
    let work = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
    let layout = work.path().join("image");
    buildah.run(["push", "--quiet", "--disable-compression", image, &format!("dir:{}", layout.display())])?;
    for layer in layers(&layout)? {
        let mut tar = Command::new("tar");
        // A base image's devices are not wanted, and would need root.
        tar.args(["-x", "--no-same-owner", "--no-same-permissions", "--exclude=dev/*", "-f"])
            .arg(&layer)
            .arg("-C")
            .arg(root);
        said(&mut tar, "tar", "tar")?;
    }
    // What a base image brings may be read-only, and is to be removed again.
    for entry in walkdir::WalkDir::new(root).into_iter().filter_map(Result::ok).filter(|e| e.file_type().is_dir()) {
        let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755));
    }
    Ok(())
}

/// The layers' files, lowest first.
fn layers(layout: &Path) -> Result<Vec<PathBuf>> {
    let path = layout.join("manifest.json");
    let text = fs::read_to_string(&path).attempt(|| format!("read {}", path.display()))?;
    let digests = serde_json::from_str::<Value>(&text).ok().and_then(|manifest| {
        let layers = manifest["layers"].as_array()?.iter();
        layers
            .map(|layer| Some(layer["digest"].as_str()?.strip_prefix("sha256:")?.to_owned()))
            .collect::<Option<Vec<_>>>()
    });
    let digests = digests.ok_or_else(|| Error::Input("buildah wrote an image that cannot be understood".to_owned()))?;
    Ok(digests.into_iter().map(|digest| layout.join(digest)).collect())
}

/// Reads a directory as an image's root.
///
/// # Errors
/// If a file cannot be read.
pub fn directory(root: &Path) -> Result<Contents> {
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    let mut contents = Contents {
        manifest: fs::read_to_string(inside(MANIFEST_PATH)).ok(),
        kernel_symbols: fs::read_to_string(inside("/opt/cxi/kernel.symvers")).ok().map(|text| symvers::parse(&text)),
        ..Contents::default()
    };
    let there =
        |name: &str| ["bin", "usr/bin"].iter().any(|directory| inside(directory).join(name).symlink_metadata().is_ok());
    contents.programs = PROGRAMS.into_iter().filter(|name| there(name)).collect();
    let firmware = inside(FIRMWARE);
    let files = walkdir::WalkDir::new(&firmware).sort_by_file_name().into_iter().filter_map(Result::ok);
    let files = files.filter(|entry| entry.file_type().is_file());
    let relative = |path: &Path, root: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    contents.firmware = files.map(|entry| relative(entry.path(), &firmware)).collect();
    let Ok(kernels) = fs::read_dir(inside(MODULES)) else { return Ok(contents) };
    for kernel in kernels.filter_map(Result::ok) {
        // The kernel's name as it is in a tag is a link to it.
        if !kernel.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = kernel.file_name().to_string_lossy().into_owned();
        let mut modules = BTreeMap::new();
        for entry in walkdir::WalkDir::new(kernel.path()).into_iter().filter_map(Result::ok) {
            let is_module = entry.file_name().to_string_lossy().contains(".ko");
            if entry.file_type().is_file() && is_module {
                modules.insert(relative(entry.path(), &kernel.path()), module(entry.path())?);
            }
        }
        if let Ok(text) = fs::read_to_string(kernel.path().join("modules.dep")) {
            contents.dependencies.insert(name.clone(), text);
        }
        contents.kernels.insert(name, modules);
    }
    Ok(contents)
}

fn module(path: &Path) -> Result<Module> {
    use sha2::{Digest, Sha256};
    let data = fs::read(path).attempt(|| format!("read {}", path.display()))?;
    let file = elf::parse(&data);
    let length = file.as_ref().map_or(data.len(), |file| file.unsigned_length);
    Ok(Module { sha256: tree::hex(&Sha256::digest(&data[..length])), file })
}
