//! `cargo xtask mirror-list`

use anyhow::{Result, bail};
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
           --driver-image registry.hpc.example/hpe/cxi-driver --driver-version 13.1.0 --kernel 5.14.0-570.12.1.el9_6.x86_64")]
pub struct Arguments {
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Registry and path that the site mirrors to
    #[arg(long, value_name = "REGISTRY/PATH", required_if_eq("format", "skopeo"))]
    to: Option<String>,
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

pub fn run(arguments: &Arguments) -> Result<()> {
    print!("{}", text(arguments, &Lock::read(&root().join(FILE))?)?);
    Ok(())
}

fn text(arguments: &Arguments, lock: &Lock) -> Result<String> {
    let images = images(arguments, lock)?;
    let to = arguments.to.as_deref().unwrap_or_default().trim_end_matches('/');
    Ok(match arguments.format {
        Format::List => images.iter().flat_map(|image| [image.reference.as_str(), "\n"]).collect(),
        Format::Skopeo => images.iter().map(|image| skopeo(image, to)).collect(),
        Format::OcMirror => oc_mirror(&images),
    })
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

/// Copies to the same path below another registry, which is where mirrors of registries are looked for.
fn skopeo(Wanted { reference, kept_as }: &Wanted, to: &str) -> String {
    format!("skopeo copy --all --preserve-digests docker://{reference} docker://{to}/{}\n", path(kept_as))
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
    fn says_what_is_missing() {
        for (flags, published, wanted) in [
            (&[][..], false, "--by-tag"),
            (&["--format", "skopeo"], true, "--to"),
            (&["--driver-image", "r"], true, "--kernel"),
            (&["--kernel", "6.1.0-56-amd64"], true, "--driver-image"),
        ] {
            let error = format!("{:#}", said(flags, published).unwrap_err());
            assert!(error.contains(wanted), "{flags:?}: {error}");
        }
    }
}
