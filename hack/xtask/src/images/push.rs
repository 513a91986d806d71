//! `cargo xtask images push`

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use cxi_images::{Archive, Digest, FILE, Image, Lock};

use super::{architecture::Architecture, buildah::Buildah, layout};
use crate::steps::{Steps, root};

/// Publishes the images that were built, for all architectures there are, and pins their digests in images.lock
///
/// Each goes to the repository and version that images.lock names. `buildah login` or --authfile says who you are.
/// Afterwards `cargo xtask gen` writes the digests into the manifests.
#[derive(Debug, Args)]
pub struct Push {
    /// Registry and path to publish below instead, as in registry.example.com/cxi; images.lock then names that one
    #[arg(long, value_name = "REGISTRY/PATH")]
    registry: Option<String>,
    /// File with credentials, as `buildah login` writes it
    #[arg(long, value_name = "FILE")]
    authfile: Option<String>,
    /// Allow a registry that speaks HTTP, or whose certificate this machine does not trust
    #[arg(long)]
    insecure: bool,
}

/// Publishes, and writes the lock when everything is there.
pub fn run(arguments: &Push) -> Result<()> {
    let buildah = Buildah::find()?;
    let path = root().join(FILE);
    let mut lock = Lock::read(&path)?;
    let mut steps = Steps::begin();
    for image in Image::ALL {
        let entry = lock.entry_mut(image);
        if let Some(registry) = &arguments.registry {
            entry.repository = format!("{}/{image}", registry.trim_end_matches('/'));
        }
        let reference = entry.by_tag();
        let digest = steps.call(&format!("push {reference}"), || push(&buildah, image, &reference, arguments))?;
        eprintln!("    {digest}");
        entry.digest = Some(digest);
    }
    lock.write(&path)?;
    steps.note(format!("wrote {FILE}; run `cargo xtask gen` and commit both"));
    steps.end();
    Ok(())
}

/// Puts an index of all architectures of an image into the registry.
fn push(buildah: &Buildah, image: Image, reference: &str, arguments: &Push) -> Result<Digest> {
    let archives = [Architecture::Amd64, Architecture::Arm64].map(|arch| layout::archive(image, arch));
    let archives: Vec<_> = archives.iter().filter(|archive| archive.is_file()).collect();
    let Some(first) = archives.first() else { bail!("{image} was not built: cargo xtask images build") };
    let index = format!("localhost/{image}:index");
    // One of an earlier try would get these added.
    let _ = buildah.run(&["manifest", "rm", &index]);
    buildah.run(&["manifest", "create", &index])?;
    let revision = Archive::read(first)?.revision().to_owned();
    ensure!(!revision.ends_with("-dirty"), "{image} is of {revision}: commit, build again, then publish");
    for archive in archives {
        let built = Archive::read(archive)?;
        ensure!(built.revision() == revision, "{} is of another commit: build all again", archive.display());
        buildah.run(&["manifest", "add", &index, &format!("oci-archive:{}", archive.display())])?;
    }
    let digest_file = layout::directory().join("digest");
    let (file, verify) = (digest_file.display().to_string(), format!("--tls-verify={}", !arguments.insecure));
    let mut task = vec!["manifest", "push", "--all", "--quiet", "--digestfile", &file, &verify];
    if let Some(authfile) = &arguments.authfile {
        task.extend(["--authfile", authfile]);
    }
    let destination = format!("docker://{reference}");
    task.extend([index.as_str(), destination.as_str()]);
    buildah.run(&task)?;
    let text = fs::read_to_string(&digest_file).context("buildah wrote no digest")?;
    Ok(text.trim().parse()?)
}
