//! `cargo xtask mirror-list`

mod place;
mod resolve;

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use cxi_driver_image_format::{ImageTag, KernelName};
use cxi_images::{Digest, FILE, Lock};

use crate::steps::root;
use place::Place;

/// Prints every image that a site without a way to the registry has to bring in
///
/// Our own images by digest, from images.lock; images of the driver by the tag that KMM asks for on nodes of each kernel, and with
/// --resolve by their digests, too; others as they are given. docs/air-gap.md has the whole way.
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
    /// Ask registries, by skopeo, for the digests of images that are named by tag; fails for one that is not there
    #[arg(long)]
    resolve: bool,
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

pub fn run(arguments: &Arguments) -> Result<()> {
    let lock = arguments.lock.clone().unwrap_or_else(|| root().join(FILE));
    let images = images(arguments, &Lock::read(&lock)?, resolve::digest)?;
    print!("{}", text(arguments, &images)?);
    if let Some(note) = without_digest(arguments, &images) {
        eprintln!("{note}");
    }
    Ok(())
}

fn text(arguments: &Arguments, images: &[Wanted]) -> Result<String> {
    match (arguments.format, &arguments.from, &arguments.to) {
        (Format::Skopeo, from, Some(to)) => skopeo(images, from.as_ref(), to),
        (_, Some(_), _) => bail!("--from is for --format skopeo"),
        (Format::OcMirror, ..) => Ok(oc_mirror(images)),
        (Format::List | Format::Skopeo, ..) => Ok(images.iter().map(|image| image.full() + "\n").collect()),
    }
}

/// What to know of images that are named by tag alone, where they are copied from a registry.
fn without_digest(arguments: &Arguments, images: &[Wanted]) -> Option<String> {
    let count = images.iter().filter(|image| !image.has_digest()).count();
    let all = images.len();
    (count > 0 && arguments.from.is_none()).then(|| {
        format!("{count} of {all} images are named by tag, which may be pushed again: --resolve adds their digests")
    })
}

/// An image to be copied, and the name with tag under which a mirror is to keep it.
struct Wanted {
    reference: String,
    kept_as: String,
    /// What its registry has for the tag.
    resolved: Option<Digest>,
}

impl Wanted {
    /// One that a user names. A digest becomes a tag: registries clean up what has none.
    fn named(reference: String) -> Self {
        Self { kept_as: reference.replace("@sha256:", ":sha256-"), reference, resolved: None }
    }

    fn has_digest(&self) -> bool {
        self.resolved.is_some() || self.reference.contains('@')
    }

    /// All that is known of it, as container runtimes take it.
    fn full(&self) -> String {
        match &self.resolved {
            Some(digest) => format!("{}@{digest}", self.reference),
            None => self.reference.clone(),
        }
    }

    /// As skopeo takes it, which wants either tag or digest.
    fn source(&self) -> String {
        let by_digest = self.resolved.as_ref().map(|digest| {
            let name = self.reference.rsplit_once('/').map_or(0, |(path, _)| path.len());
            let tag = self.reference[name..].find(':').map_or(self.reference.len(), |at| name + at);
            format!("{}@{digest}", &self.reference[..tag])
        });
        format!("docker://{}", by_digest.as_ref().unwrap_or(&self.reference))
    }
}

/// All images; `digest` asks a registry.
fn images(arguments: &Arguments, lock: &Lock, digest: impl Fn(&str) -> Result<Digest>) -> Result<Vec<Wanted>> {
    let mut images = Vec::new();
    for (image, entry) in lock.entries() {
        let kept_as = entry.by_tag();
        match entry.by_digest() {
            _ if arguments.by_tag => images.push(Wanted::named(kept_as)),
            Some(reference) => images.push(Wanted { reference, kept_as, resolved: None }),
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
    // What comes from a directory was resolved when it was copied there.
    if arguments.resolve && arguments.from.is_none() {
        for image in images.iter_mut().filter(|image| !image.has_digest()) {
            image.resolved = Some(digest(&image.reference)?);
        }
    }
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
            Some(place) => place.of(&image.kept_as),
            None => image.source(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "skopeo copy --all --preserve-digests {from} {}", to.of(&image.kept_as));
    }
    Ok(text)
}

fn oc_mirror(images: &[Wanted]) -> String {
    let mut text = String::from(
        "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n",
    );
    for image in images {
        text.push_str("  - name: ");
        text.push_str(&image.reference);
        if let Some(digest) = &image.resolved {
            // For who reads it: by digest alone oc-mirror would leave the tag behind, by which KMM asks.
            let _ = write!(text, " # {digest}");
        }
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
        let digest = |image: &str| {
            ensure!(!image.contains("absent"), "no digest of {image}");
            Ok(format!("sha256:{}", "2".repeat(64)).parse()?)
        };
        let images = images(&line.arguments, &lock, digest)?;
        let note = without_digest(&line.arguments, &images).map(|note| note + "\n").unwrap_or_default();
        text(&line.arguments, &images).map(|text| text + &note)
    }

    #[test]
    fn every_image_is_listed_once() {
        let flags = ["--driver-image", "r.example/cxi", "--driver-version", "13.0.0", "--driver-version", "13.1.0"];
        let kernels =
            ["--kernel", "6.12.1+deb12-amd64", "--kernel", "5.14.0-570.el9.x86_64", "--also", "r.example/rh:1"];
        let text = said(&[&flags[..], &kernels[..]].concat(), true).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3 + 4 + 1 + 1, "{text}");
        assert_eq!(lines[0], format!("ghcr.io/x/cxi-operator@sha256:{}", "0".repeat(64)));
        assert_eq!(lines[3], "r.example/cxi:13.0.0-6.12.1_deb12-amd64");
        assert_eq!(lines[7], "r.example/rh:1");
        assert!(lines[8].starts_with("5 of 8 images are named by tag"), "{text}");
    }

    #[test]
    fn what_is_named_by_tag_gets_the_digest_that_its_registry_has() {
        let driver =
            ["--driver-image", "r.example:5000/cxi", "--driver-version", "13.0.0", "--kernel", "6.1.0-56-amd64"];
        let with = |flags: &[&str]| said(&[&driver[..], &["--resolve"], flags].concat(), true).unwrap();
        let digest = format!("sha256:{}", "2".repeat(64));

        let list = with(&[]);
        assert_eq!(list.lines().last(), Some(format!("r.example:5000/cxi:13.0.0-6.1.0-56-amd64@{digest}").as_str()));
        assert_eq!(list.lines().filter(|line| line.contains("@sha256:")).count(), 4, "{list}");
        // The tag stays on the mirror: KMM asks by it.
        let copy = with(&["--format", "skopeo", "--to", "m.example"]);
        let wanted = format!("docker://r.example:5000/cxi@{digest} docker://m.example/cxi:13.0.0-6.1.0-56-amd64");
        assert!(copy.lines().last().unwrap().ends_with(&wanted), "{copy}");
        let set = with(&["--format", "oc-mirror"]);
        assert!(set.ends_with(&format!("  - name: r.example:5000/cxi:13.0.0-6.1.0-56-amd64 # {digest}\n")), "{set}");
        let disk = with(&["--format", "skopeo", "--from", "dir:d", "--to", "m.example"]);
        assert!(!disk.contains(&digest), "{disk}");

        let error = said(&["--resolve", "--also", "r.example/absent:1"], true).unwrap_err().to_string();
        assert!(error.contains("r.example/absent:1"), "{error}");
        let built_here = said(&["--resolve", "--by-tag"], false).unwrap();
        assert_eq!(built_here.lines().next(), Some(format!("ghcr.io/x/cxi-operator:1.2.3@{digest}").as_str()));
    }

    #[test]
    fn forms_are_those_of_the_tools() {
        let skopeo = said(&["--format", "skopeo", "--to", "m.example/cxi/", "--by-tag"], false).unwrap();
        let wanted = "skopeo copy --all --preserve-digests docker://ghcr.io/x/cxi-agent:1.2.3 docker://m.example/cxi/x/cxi-agent:1.2.3";
        assert_eq!(skopeo.lines().nth(2), Some(wanted));
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
