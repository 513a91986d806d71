//! Writes the generated files, or with `--check` says which differ.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cxi_images::Lock;
use cxi_packaging::{
    files,
    olm::{self, Flavour, Release},
};

const COMMAND: &str = "cargo xtask gen";

/// Version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes the generated files
#[derive(Debug, Parser)]
struct Arguments {
    /// Write nothing; fail if a file differs from what would be written
    #[arg(long, conflicts_with = "olm")]
    check: bool,
    /// Write a bundle for this OLM, and nothing else
    #[arg(long, value_enum)]
    olm: Option<Flavour>,
    /// Directory of that bundle
    #[arg(long, requires = "olm")]
    output: Option<PathBuf>,
    /// Version of that bundle; that of the workspace if not given
    #[arg(long, requires = "olm")]
    bundle_version: Option<String>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let images = Lock::read(&root.join(cxi_images::FILE))?;
    if let Some(flavour) = arguments.olm {
        let version = arguments.bundle_version.as_deref().unwrap_or(VERSION);
        let output = arguments.output.unwrap_or_else(|| root.join("target/bundle"));
        return write_bundle(&Release { version, images: &images, flavour }, &output);
    }
    let files = files::all(VERSION, &images)?;
    let mut differ = false;
    for (name, text) in &files {
        let path = root.join(name);
        if fs::read_to_string(&path).is_ok_and(|found| found == *text) {
            continue;
        }
        if arguments.check {
            differ = true;
            eprintln!("{} differs from what is generated; run: {COMMAND}", name.display());
        } else {
            fs::create_dir_all(path.parent().unwrap_or(&root)).context("cannot make the directory")?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("wrote {}", name.display());
        }
    }
    let expected: BTreeSet<_> = files.into_iter().map(|(name, _)| name).collect();
    for directory in files::WHOLLY_GENERATED {
        for name in listed(&root, Path::new(directory))?.difference(&expected) {
            if arguments.check {
                differ = true;
                eprintln!("{} is not generated any more; run: {COMMAND}", name.display());
            } else {
                fs::remove_file(root.join(name)).with_context(|| format!("cannot remove {}", name.display()))?;
                println!("removed {}", name.display());
            }
        }
    }
    Ok(if differ { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Writes a bundle into a directory of its own.
fn write_bundle(release: &Release<'_>, output: &Path) -> Result<ExitCode> {
    if output.exists() {
        let is_bundle = output.join("manifests").is_dir() && output.join("metadata").is_dir();
        let is_empty = fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none());
        ensure!(is_bundle || is_empty, "{} is there and is no bundle; name another directory", output.display());
        fs::remove_dir_all(output).with_context(|| format!("cannot empty {}", output.display()))?;
    }
    for (name, text) in olm::bundle(release)? {
        let path = output.join(name);
        fs::create_dir_all(path.parent().unwrap_or(output)).context("cannot make the directory")?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("wrote the bundle {} to {}", release.name(), output.display());
    Ok(ExitCode::SUCCESS)
}

/// Files below a directory, relative to `root`.
fn listed(root: &Path, directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let entries = match fs::read_dir(root.join(directory)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries.with_context(|| format!("cannot list {}", directory.display()))?,
    };
    for entry in entries {
        let entry = entry.context("cannot list a directory")?;
        let name = directory.join(entry.file_name());
        if entry.file_type().context("cannot look at a file")?.is_dir() {
            found.append(&mut listed(root, &name)?);
        } else {
            found.insert(name);
        }
    }
    Ok(found)
}
