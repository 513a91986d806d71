//! `cargo xtask mirror-list`

use std::{fmt::Write as _, path::PathBuf, str::FromStr};

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use cxi_driver_images::{ImageTag, KernelName};
use cxi_images::{FILE, Lock};

use crate::steps::root;

/// Prints every image that a site without a way to the registry has to bring in
///
/// Our own images by digest, from images.lock; images of the driver by the tag that KMM asks for on nodes of each kernel; others
/// as they are given. docs/air-gap.md has the whole way.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask mirror-list --format skopeo --to registry.example.com/cxi \\
           --driver-image registry.hpc.example/hpe/cxi-driver --driver-version 13.1.0 --kernel 5.14.0-570.12.1.el9_6.x86_64\n\
           By a disk: --format skopeo --to dir:/media/disk/cxi, then --format skopeo --from dir:/media/disk/cxi --to registry.example.com/cxi")]
pub struct Arguments {
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Registry and path that the site mirrors to, or a directory on the way there
    #[arg(long, value_name = "REGISTRY/PATH|dir:DIRECTORY", required_if_eq("format", "skopeo"))]
    to: Option<Place>,
    /// Directory that the images were copied to before, instead of the registries that they come from
    #[arg(long, value_name = "dir:DIRECTORY", requires = "to")]
    from: Option<Place>,
    /// Repository of driver images, as in source.image of a CXIDriver
    #[arg(long, value_name = "REPOSITORY", requires = "driver_versions", requires = "kernels")]
    driver_image: Option<String>,
    /// Driver release; may be given several times
    #[arg(long = "driver-version", value_name = "VERSION", requires = "driver_image")]
    driver_versions: Vec<String>,
    /// Kernel of nodes, as `uname -r` prints it; may be given several times
    #[arg(long = "kernel", value_name = "RELEASE", requires = "driver_image")]
    kernels: Vec<KernelName>,
    /// Another image, as that of a retry handler; may be given several times
    #[arg(long = "also", value_name = "IMAGE")]
    others: Vec<String>,
    /// images.lock of another release than that of this checkout
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Name our own images by tag: for a release whose digests are not in images.lock, such as one that was built here
    #[arg(long)]
    by_tag: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One image per line
    #[default]
    List,
    /// Commands that copy each image, with all architectures
    Skopeo,
    /// A configuration of oc-mirror v2, for OpenShift
    OcMirror,
}

/// Where images are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Below a path of a registry, or below a registry.
    Registry(String),
    /// In a directory, each in one of its own.
    Directory(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, name): (fn(String) -> Self, _) = match text.strip_prefix("dir:") {
            Some(directory) => (Self::Directory, directory),
            None => (Self::Registry, text),
        };
        if name.contains("://") {
            return Err("leave out the scheme: a registry is named as in registry.example.com/path".to_owned());
        }
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "/.-_:@".contains(letter);
        if name.is_empty() || !name.chars().all(plain) {
            return Err("letters, digits and the characters / . - _ : are what a name may have".to_owned());
        }
        Ok(place(name.trim_end_matches('/').to_owned()))
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let lock = arguments.lock.clone().unwrap_or_else(|| root().join(FILE));
    print!("{}", text(arguments, &Lock::read(&lock)?)?);
    Ok(())
}

fn text(arguments: &Arguments, lock: &Lock) -> Result<String> {
    let images = images(arguments, lock)?;
    match (arguments.format, &arguments.from, &arguments.to) {
        (Format::Skopeo, from, Some(to)) => skopeo(&images, from.as_ref(), to),
        (_, Some(_), _) => bail!("--from is for --format skopeo"),
        (Format::OcMirror, ..) => Ok(oc_mirror(&images)),
        (Format::List | Format::Skopeo, ..) => {
            Ok(images.iter().flat_map(|image| [image.reference.as_str(), "\n"]).collect())
        }
    }
}

/// An image to be copied, and the name with tag under which a mirror is to keep it.
struct Wanted {
    reference: String,
    kept_as: String,
}

impl Wanted {
    /// One that somebody names. A digest becomes a tag: registries clean up what has none.
    fn named(reference: String) -> Self {
        Self { kept_as: reference.replace("@sha256:", ":sha256-"), reference }
    }

    /// Where a copy of it is, as skopeo names it. In a registry it is the same path below another, which is where mirrors of
    /// registries are looked for.
    fn at(&self, place: &Place) -> String {
        match place {
            Place::Registry(registry) => format!("docker://{registry}/{}", path(&self.kept_as)),
            Place::Directory(directory) => format!("dir:{directory}/{}", self.kept_as.replace(['/', ':'], "_")),
        }
    }
}

fn images(arguments: &Arguments, lock: &Lock) -> Result<Vec<Wanted>> {
    let mut images = Vec::new();
    for (image, entry) in lock.entries() {
        let kept_as = entry.by_tag();
        match entry.by_digest() {
            _ if arguments.by_tag => images.push(Wanted::named(kept_as)),
            Some(reference) => images.push(Wanted { reference, kept_as }),
            None => bail!(
                "{FILE} has no digest of {image} {}: it was not published; --by-tag names it by tag, for images of your own",
                entry.version
            ),
        }
    }
    if let Some(repository) = &arguments.driver_image {
        for version in &arguments.driver_versions {
            for kernel in &arguments.kernels {
                images.push(Wanted::named(format!("{repository}:{}", ImageTag::new(version, kernel)?)));
            }
        }
    }
    images.extend(arguments.others.iter().cloned().map(Wanted::named));
    Ok(images)
}

/// Copies each image, with all architectures.
fn skopeo(images: &[Wanted], from: Option<&Place>, to: &Place) -> Result<String> {
    ensure!(!matches!(from, Some(Place::Registry(_))), "--from is a directory, as in dir:/media/disk/cxi");
    let mut text = String::new();
    if let Place::Directory(directory) = to {
        ensure!(from.is_none(), "from one directory to another: copy it");
        text = format!("mkdir -p {directory}\n");
    }
    for image in images {
        let from = match from {
            Some(place) => image.at(place),
            None => format!("docker://{}", image.reference),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "skopeo copy --all --preserve-digests {from} {}", image.at(to));
    }
    Ok(text)
}

/// An image's name without the registry, which is a first part with a dot or a colon in it.
fn path(name: &str) -> &str {
    match name.split_once('/') {
        Some((registry, path)) if registry.contains(['.', ':']) || registry == "localhost" => path,
        _ => name,
    }
}

fn oc_mirror(images: &[Wanted]) -> String {
    let mut text = String::from(
        "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n",
    );
    for image in images {
        text.push_str("  - name: ");
        text.push_str(&image.reference);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use cxi_images::Image;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn said(flags: &[&str], published: bool) -> Result<String> {
        let line = Line::try_parse_from([&["mirror-list"], flags].concat())?;
        let mut lock = Lock::read(&root().join(FILE))?;
        for image in Image::ALL {
            let entry = lock.entry_mut(image);
            entry.repository = format!("ghcr.io/x/{image}");
            entry.version = "1.2.3".to_owned();
            entry.digest = if published { Some(format!("sha256:{}", "0".repeat(64)).parse()?) } else { None };
        }
        text(&line.arguments, &lock)
    }

    #[test]
    fn every_image_is_listed_once() {
        let flags = ["--driver-image", "r.example/cxi", "--driver-version", "13.0.0", "--driver-version", "13.1.0"];
        let kernels =
            ["--kernel", "6.12.1+deb12-amd64", "--kernel", "5.14.0-570.el9.x86_64", "--also", "r.example/rh:1"];
        let text = said(&[&flags[..], &kernels[..]].concat(), true).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3 + 4 + 1, "{text}");
        assert_eq!(lines[0], format!("ghcr.io/x/cxi-operator@sha256:{}", "0".repeat(64)));
        assert_eq!(lines[3], "r.example/cxi:13.0.0-6.12.1_deb12-amd64");
        assert_eq!(lines[7], "r.example/rh:1");
    }

    #[test]
    fn forms_are_those_of_the_tools() {
        let skopeo = said(&["--format", "skopeo", "--to", "m.example/cxi/", "--by-tag"], false).unwrap();
        let wanted = "skopeo copy --all --preserve-digests docker://ghcr.io/x/cxi-agent:1.2.3 docker://m.example/cxi/x/cxi-agent:1.2.3";
        assert_eq!(skopeo.lines().last(), Some(wanted));
        let also = format!("localhost/rh@sha256:{}", "1".repeat(64));
        let skopeo = said(&["--format", "skopeo", "--to", "m.example", "--also", &also], true).unwrap();
        assert!(skopeo.lines().next().unwrap().ends_with(" docker://m.example/x/cxi-operator:1.2.3"), "{skopeo}");
        assert!(skopeo.contains(" docker://m.example/rh:sha256-111"), "{skopeo}");
        let set = said(&["--format", "oc-mirror"], true).unwrap();
        assert!(set.contains("apiVersion: mirror.openshift.io/v2alpha1"), "{set}");
        assert_eq!(set.matches("  - name: ghcr.io/x/cxi-").count(), 3, "{set}");
    }

    #[test]
    fn a_disk_is_written_on_one_side_and_read_on_the_other() {
        let to = said(&["--format", "skopeo", "--to", "dir:/media/disk/cxi/"], true).unwrap();
        let from = ["--format", "skopeo", "--from", "dir:/media/disk/cxi", "--to", "m.example/cxi"];
        let from = said(&from, true).unwrap();
        let (mkdir, to) = to.split_once('\n').unwrap();
        assert_eq!(mkdir, "mkdir -p /media/disk/cxi");
        assert_eq!(to.lines().count(), 3);
        for (written, read) in to.lines().zip(from.lines()) {
            let (_, written) = written.rsplit_once(' ').unwrap();
            let words: Vec<_> = read.split(' ').collect();
            assert_eq!(words[words.len() - 2], written);
        }
        let wanted = "skopeo copy --all --preserve-digests dir:/media/disk/cxi/ghcr.io_x_cxi-agent_1.2.3 docker://m.example/cxi/x/cxi-agent:1.2.3";
        assert_eq!(from.lines().last(), Some(wanted));
    }

    #[test]
    fn says_what_is_missing() {
        for (flags, published, wanted) in [
            (&[][..], false, "--by-tag"),
            (&["--format", "skopeo"], true, "--to"),
            (&["--driver-image", "r"], true, "--kernel"),
            (&["--kernel", "6.1.0-56-amd64"], true, "--driver-image"),
            (&["--from", "dir:d"], true, "--to"),
            (&["--from", "dir:d", "--to", "m.example"], true, "--format skopeo"),
            (&["--format", "skopeo", "--from", "m.example", "--to", "n.example"], true, "is a directory"),
            (&["--format", "skopeo", "--from", "dir:d", "--to", "dir:e"], true, "copy it"),
            (&["--format", "skopeo", "--to", "https://m.example"], true, "scheme"),
            (&["--format", "skopeo", "--to", "dir:a b"], true, "a name may have"),
        ] {
            let error = format!("{:#}", said(flags, published).unwrap_err());
            assert!(error.contains(wanted), "{flags:?}: {error}");
        }
    }
}
