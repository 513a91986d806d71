//! The context of a build: the source trees in their order, checked, and what else the Containerfile copies.

mod git;
mod layout;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cxi_driver_image_format::{
    containerfile::{DIGESTS, FIRMWARE, HEADERS, SOURCES},
    layout::{FIRMWARE_RULES, Kind, path_inside},
};

use crate::{
    buildah::said,
    error::{Attempt, Error, Result},
    source::{Location, Source},
    tree,
};

/// What goes into a context.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// DKMS trees, each built after those before it.
    pub sources: Vec<Source>,
    /// Trees that only have headers. They come first.
    pub headers: Vec<Source>,
    /// Firmware files.
    pub firmware: Option<Source>,
    /// A layout file, which lists sources and headers instead of those above.
    pub layout: Option<PathBuf>,
    /// Firmware files that the modules ask for, below `/opt/lib/firmware` of the image.
    pub needs_firmware: Vec<String>,
    /// Kernel headers that no repository has: packages, or one directory as /lib/modules/<kernel>/build would be.
    pub kernel_headers: Vec<PathBuf>,
    /// Lines for the builder's package sources.
    pub package_sources: Vec<String>,
}

impl Inputs {
    /// The same for one release, see [`Source::of_release`].
    #[must_use]
    pub fn of_release(&self, version: &str) -> Self {
        let filled = |sources: &[Source]| sources.iter().map(|source| source.of_release(version)).collect();
        Self {
            sources: filled(&self.sources),
            headers: filled(&self.headers),
            firmware: self.firmware.as_ref().map(|firmware| firmware.of_release(version)),
            ..self.clone()
        }
    }
}

/// A context, in a temporary directory.
#[derive(Debug)]
pub struct Context {
    directory: tempfile::TempDir,
    /// Newest time of the sources, in seconds since 1970.
    pub epoch: u64,
}

impl Context {
    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A tree of a build, in the order of building.
struct Tree {
    source: Source,
    kind: Kind,
    /// Name of its directory.
    directory: String,
    /// Lines for `scripts/keep.sh`.
    firmware: String,
    /// Which part of a layout it is.
    field: Option<String>,
    /// Which field of that part says where it is.
    place: &'static str,
}

/// Why a tree cannot be brought.
#[derive(Debug)]
struct Fault {
    /// The field of a layout's tree that is wrong; that which says where the tree is when left out.
    field: Option<&'static str>,
    error: Error,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { field: None, error }
    }
}

impl Fault {
    fn of(field: &'static str, why: String) -> Self {
        Self { field: Some(field), error: Error::Input(why) }
    }

    /// What is said of a tree.
    fn of_tree(self, tree: &Tree) -> Error {
        match (&tree.field, self.error) {
            (Some(field), Error::Input(why)) => {
                Error::Input(format!("{field}.{}: {why}", self.field.unwrap_or(tree.place)))
            }
            (_, error) => error,
        }
    }
}

/// Puts the context of a release's build together.
pub fn stage(inputs: &Inputs, version: &str) -> Result<Context> {
    let inputs = &inputs.of_release(version);
    let directory = tempfile::Builder::new()
        .prefix("cxi-driver-image-")
        .tempdir()
        .attempt(|| "create a temporary directory; TMPDIR says where".to_owned())?;
    let root = directory.path();
    for name in [SOURCES, DIGESTS, FIRMWARE, HEADERS] {
        fs::create_dir(root.join(name)).attempt(|| format!("create {}", root.join(name).display()))?;
    }
    let sources = root.join(SOURCES);
    let layout = inputs.layout.as_ref().map(|file| layout::read(file, version)).transpose()?;
    let trees = match &layout {
        Some((layout, place)) => layout::trees(layout, place),
        None => listed(inputs),
    };
    if trees.is_empty() {
        return Err(Error::Input("there is nothing to build: give at least one --source, or a --layout".to_owned()));
    }
    let mut epoch = 0;
    for tree in &trees {
        let (digest, newest) =
            bring(&tree.source, &sources.join(&tree.directory)).map_err(|fault| fault.of_tree(tree))?;
        epoch = epoch.max(newest);
        write(&root.join(DIGESTS).join(&tree.directory), &format!("{digest}\n"))?;
    }
    let mut needs: Vec<String> = inputs.needs_firmware.clone();
    for file in &needs {
        path_inside(file).map_err(|why| Error::Input(format!("--needs-firmware: {why}")))?;
    }
    if let Some((layout, _)) = &layout {
        layout::arrange(layout, root)?;
        needs.extend(layout.needs_firmware.iter().cloned());
    }
    for tree in &trees {
        let beside = |ending: &str, text: &str| write(&sources.join(format!("{}.{ending}", tree.directory)), text);
        match tree.kind {
            Kind::Module => check(&tree.source, &sources.join(&tree.directory), tree.field.as_deref())?,
            Kind::Headers => beside("kind", "headers\n")?,
            Kind::Firmware => beside("kind", "firmware\n")?,
        }
        if let Some(package) = tree.source.name.as_ref().filter(|_| tree.kind != Kind::Firmware) {
            beside("name", &format!("{package}\n"))?;
        }
        if !tree.firmware.is_empty() {
            beside(FIRMWARE_RULES, &tree.firmware)?;
        }
    }
    needs.sort();
    needs.dedup();
    if !needs.is_empty() {
        write(&sources.join("needs-firmware"), &(needs.join("\n") + "\n"))?;
    }
    if let Some(firmware) = &inputs.firmware {
        let (_, newest) = bring(firmware, &root.join(FIRMWARE).join("new")).map_err(|fault| fault.error)?;
        epoch = epoch.max(newest);
        rename(&root.join(FIRMWARE).join("new"), root, FIRMWARE)?;
    }
    kernel(inputs, &root.join(HEADERS))?;
    Ok(Context { directory, epoch })
}

/// The trees that were listed one by one: headers first.
fn listed(inputs: &Inputs) -> Vec<Tree> {
    let headers = inputs.headers.iter().map(|source| (source, Kind::Headers));
    let all = headers.chain(inputs.sources.iter().map(|source| (source, Kind::Module)));
    let tree = |(number, (source, kind)): (usize, (&Source, Kind))| Tree {
        source: source.clone(),
        kind,
        directory: format!("{:02}-{}", number + 1, source.short_name()),
        firmware: String::new(),
        field: None,
        place: "",
    };
    if inputs.sources.is_empty() { Vec::new() } else { all.enumerate().map(tree).collect() }
}

/// Puts `from`, which lies inside `root/name`, in its place.
fn rename(from: &Path, root: &Path, name: &str) -> Result<()> {
    let aside = root.join(format!("{name}.new"));
    let attempt = || format!("move {}", from.display());
    fs::rename(from, &aside).attempt(attempt)?;
    fs::remove_dir_all(root.join(name)).attempt(attempt)?;
    fs::rename(&aside, root.join(name)).attempt(attempt)
}

/// Brings a tree to `place`: its digest and its newest time.
fn bring(source: &Source, place: &Path) -> Result<(String, u64), Fault> {
    let unpacked = match &source.location {
        Location::Path(path) if path.is_dir() => {
            if source.sha256.is_some() {
                let why =
                    format!("{source} is a directory, which has no checksum: leave #sha256=… out, or give an archive");
                return Err(Fault::of("sha256", why));
            }
            tree::copy(&inside(source, path)?, place)?;
            // The copies are new; the times of the originals count.
            let newest = tree::newest(&inside(source, path)?)?;
            return Ok((format!("tree:{}", tree::digest(place)?), newest));
        }
        Location::Path(path) if path.is_file() => unpack(source, path)?,
        Location::Path(path) if !path.exists() => return Err(Error::Input(not_there(path)).into()),
        Location::Path(path) => {
            let why =
                format!("there is no source at {}: give a directory, an archive, or an archive's URL", path.display());
            return Err(Error::Input(why).into());
        }
        Location::Url(url) => {
            let archive = download(url)?;
            unpack(source, archive.path())?
        }
        Location::Git { url, reference } => return git::bring(source, url, reference, place),
    };
    let (directory, sum) = unpacked;
    let newest = tree::newest(directory.path())?;
    tree::copy(&inside(source, &flattened(directory.path())?)?, place)?;
    Ok((format!("sha256:{sum}"), newest))
}

/// How many names a message lists at most.
const MAX_NAMES: usize = 12;

/// What is said of a place that does not exist, with what there is beside it.
fn not_there(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let near = path.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
    let entries = fs::read_dir(near).into_iter().flatten().filter_map(std::result::Result::ok);
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().escape_debug().collect()).collect();
    names.sort();
    let more = if names.len() > MAX_NAMES { " and more" } else { "" };
    names.truncate(MAX_NAMES);
    let place = if path.parent() == Some(near) { String::new() } else { format!("in {} ", near.display()) };
    let there = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    format!("{} does not exist; {place}there are: {there}{more}", path.display())
}

/// The directory that is meant.
fn inside(source: &Source, root: &Path) -> Result<PathBuf, Fault> {
    let Some(directory) = &source.directory else { return Ok(root.to_owned()) };
    let path = root.join(directory);
    // A link of the tree may lead anywhere on this machine.
    let real = |path: &Path| path.canonicalize().ok();
    if path.is_dir() && real(&path).zip(real(root)).is_some_and(|(path, root)| path.starts_with(root)) {
        Ok(path)
    } else {
        let why = "a directory inside is given relative to the tree's top";
        Err(Fault::of("inside", format!("{source} has no directory {directory}: {why}")))
    }
}

/// An archive usually holds one directory, named like the release.
fn flattened(root: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(root).attempt(|| format!("read {}", root.display()))?;
    let all: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    match &all[..] {
        [one] if one.is_dir() && !one.is_symlink() => Ok(one.clone()),
        _ => Ok(root.to_owned()),
    }
}

fn check_sum(source: &Source, archive: &Path) -> Result<String, Fault> {
    let sum = tree::file_digest(archive)?;
    match &source.sha256 {
        Some(expected) if *expected != sum => {
            let why = format!(
                "{source} has SHA-256 {sum}, not {expected}: find out why it changed before you change the checksum"
            );
            Err(Fault::of("sha256", why))
        }
        _ => Ok(sum),
    }
}

fn download(url: &str) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new().attempt(|| "create a temporary file".to_owned())?;
    let mut command = Command::new("curl");
    command.args(["--fail", "--location", "--silent", "--show-error", "--retry", "3", "--connect-timeout", "20"]);
    said(command.arg("--output").arg(file.path()).arg(url), "curl", "curl").map_err(|error| match error {
        Error::Program { said, .. } => Error::Input(format!(
            "{url} cannot be downloaded ({said}): check the URL and the proxy, or give the archive's file"
        )),
        other => other,
    })?;
    Ok(file)
}

/// Unpacks an archive that has the right checksum: its directory, and its SHA-256.
fn unpack(source: &Source, archive: &Path) -> Result<(tempfile::TempDir, String), Fault> {
    let sum = check_sum(source, archive)?;
    let directory = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
    let outcome = if source.is_zip() {
        said(Command::new("unzip").arg("-q").arg(archive).arg("-d").arg(directory.path()), "unzip", "unzip")
    } else {
        let mut command = Command::new("tar");
        // tar recognises the compression by the content, and refuses members that lead out.
        said(command.args(["-x", "--no-same-owner", "-f"]).arg(archive).arg("-C").arg(directory.path()), "tar", "tar")
    };
    outcome.map_err(|error| match error {
        Error::Program { .. } => Error::Input(format!(
            "{source} is not an archive that can be read: .tar.gz, .tar.xz, .tar.zst and .zip are; a URL must be that of the \
             archive itself, not of a page about it"
        )),
        other => other,
    })?;
    Ok((directory, sum))
}

/// Whether DKMS can do anything with a tree.
fn check(source: &Source, place: &Path, field: Option<&str>) -> Result<()> {
    if place.join("dkms.conf").is_file() || place.join("dkms.conf.in").is_file() {
        return Ok(());
    }
    let elsewhere: Vec<String> = walkdir::WalkDir::new(place)
        .max_depth(4)
        .sort_by_file_name()
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() == "dkms.conf" || entry.file_name() == "dkms.conf.in")
        .filter_map(|entry| Some(entry.path().parent()?.strip_prefix(place).ok()?.display().to_string()))
        .collect();
    let inside = source.directory.as_deref();
    let top = inside.map_or("at its top".to_owned(), |inside| format!("in {inside}"));
    let lacks = format!("{source} has no dkms.conf {top}");
    let found = elsewhere.first().map(|below| Path::new(inside.unwrap_or_default()).join(below).display().to_string());
    Err(Error::Input(match (field, found) {
        (Some(field), Some(found)) => {
            format!("{field}.inside: {lacks}: set inside to {found}, or copy the file from there by a rule in copy")
        }
        (Some(field), None) => format!(
            "{field}.kind: {lacks}, which a tree of kind module needs: copy it from where it is by a rule in copy, or set kind \
             to headers or firmware"
        ),
        (None, Some(found)) => format!("{lacks}: it lies in {found}, so give {source}#dir={found}"),
        (None, None) => {
            format!("{lacks}: give the tree that has one; a tree that only has headers is given with --headers")
        }
    }))
}

/// Kernel headers that are given, and where else to look for them.
fn kernel(inputs: &Inputs, place: &Path) -> Result<()> {
    for path in &inputs.kernel_headers {
        let name = path.file_name().unwrap_or_default();
        let package = path.extension().is_some_and(|ending| ending == "deb" || ending == "rpm");
        if path.is_dir() {
            if !path.join("Makefile").is_file() || !path.join("Module.symvers").is_file() {
                return Err(Error::Input(format!(
                    "{} is not a kernel's build directory: it needs Makefile and Module.symvers, as /lib/modules/<kernel>/build \
                     has",
                    path.display()
                )));
            }
            tree::copy(path, &place.join("tree"))?;
        } else if path.is_file() && package {
            fs::copy(path, place.join(name)).attempt(|| format!("copy {}", path.display()))?;
        } else {
            return Err(Error::Input(format!(
                "{} brings no kernel headers: give .deb or .rpm packages, or a kernel's build directory",
                path.display()
            )));
        }
    }
    if !inputs.package_sources.is_empty() {
        let lines = inputs.package_sources.join("\n") + "\n";
        write(&place.join("cxi.list"), &lines)?;
        write(&place.join("cxi.repo"), &lines)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).attempt(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why a layout of one tree is not staged, with its directory as `DIR`.
    fn refusal(tree: &str) -> String {
        let work = tempfile::tempdir().unwrap();
        for name in ["driver-13.0.0", "headers"] {
            fs::create_dir(work.path().join(name)).unwrap();
        }
        fs::create_dir_all(work.path().join("headers/a/b")).unwrap();
        fs::write(work.path().join("headers/a/b/dkms.conf"), "").unwrap();
        fs::write(work.path().join("driver.tar.gz"), "no archive").unwrap();
        let layout = work.path().join("stack.yaml");
        fs::write(&layout, format!("trees: [{{name: driver, kind: module, {tree}}}]")).unwrap();
        let error = stage(&Inputs { layout: Some(layout), ..Inputs::default() }, "13.0.0").unwrap_err();
        error.to_string().replace(&work.path().display().to_string(), "DIR")
    }

    #[test]
    fn a_tree_that_cannot_be_brought_names_the_field_of_the_layout() {
        let there = "driver-13.0.0, driver.tar.gz, headers, stack.yaml";
        assert_eq!(
            refusal("directory: driver-12"),
            format!("DIR/stack.yaml: trees[0].directory: DIR/driver-12 does not exist; there are: {there}")
        );
        assert_eq!(
            refusal("archive: nowhere/driver.zip"),
            format!(
                "DIR/stack.yaml: trees[0].archive: DIR/nowhere/driver.zip does not exist; in DIR there are: {there}"
            )
        );
        let sum = "0".repeat(64);
        for (tree, field, says) in [
            (format!("archive: driver.tar.gz, sha256: '{sum}'"), "sha256", "find out why it changed"),
            ("archive: driver.tar.gz".to_owned(), "archive", "is not an archive that can be read"),
            ("directory: driver-13.0.0, inside: src".to_owned(), "inside", "has no directory src"),
        ] {
            let why = refusal(&tree);
            let begin = format!("DIR/stack.yaml: trees[0].{field}: ");
            assert!(why.starts_with(&begin) && why.contains(says), "{why}");
        }
    }

    #[test]
    fn a_tree_without_dkms_conf_names_the_field_and_what_to_set() {
        assert_eq!(
            refusal("directory: headers, inside: a"),
            "DIR/stack.yaml: trees[0].inside: DIR/headers has no dkms.conf in a: set inside to a/b, or copy the file from there by \
             a rule in copy"
        );
        assert_eq!(
            refusal("directory: driver-13.0.0"),
            "DIR/stack.yaml: trees[0].kind: DIR/driver-13.0.0 has no dkms.conf at its top, which a tree of kind module needs: copy \
             it from where it is by a rule in copy, or set kind to headers or firmware"
        );
    }
}
