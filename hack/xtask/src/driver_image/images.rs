//! `cargo xtask driver-image inspect`, `verify` and `push`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use cxi_driver_image_builder::{
    Error,
    buildah::{Buildah, Image},
    inspect, push, symvers, unpack,
    verify::{Expected, kernel_in_tag, verify, warnings},
};

/// Shows what is in a driver image: release, kernel, modules with build-ids, firmware, sources
#[derive(Debug, Args)]
pub struct Inspect {
    /// The image; it is pulled if it is not here
    image: String,
    /// Print the manifest, as JSON, and nothing else
    #[arg(long)]
    manifest: bool,
}

impl Inspect {
    pub fn run(&self, buildah: &Buildah) -> Result<()> {
        let image = have(buildah, &self.image)?;
        let contents = unpack::image(buildah, &self.image)?;
        if self.manifest {
            print!("{}", contents.manifest.context("the image has no manifest")?);
        } else {
            print!("{}", inspect::describe(&self.image, &image, &contents));
        }
        Ok(())
    }
}

/// Checks that a driver image is what it says it is
///
/// Its modules are those of the manifest, no more and no fewer, with the build-ids and contents that it says, built for
/// that kernel; every symbol that they need is there in the right version; modprobe finds what they depend on; KMM can
/// use the image. Says all that is wrong, and warns when firmware is not in it that its modules ask for.
#[derive(Debug, Args)]
pub struct Verify {
    /// The image; it is pulled if it is not here
    image: String,
    /// Driver release that it must be
    #[arg(long, value_name = "VERSION")]
    driver_version: Option<String>,
    /// Modules that must be in it, as lsmod prints them, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    modules: Vec<String>,
    /// Firmware that its modules ask for, below /opt/lib/firmware, separated by commas; what its manifest and its modules name
    /// counts anyway. An image without one of them gets a warning
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    needs_firmware: Vec<String>,
    /// Module.symvers of the kernel, from /lib/modules/<kernel>/build; without it the symbols are compared with those that
    /// the image says it was built against
    #[arg(long, value_name = "FILE")]
    symvers: Option<PathBuf>,
}

impl Verify {
    pub fn run(&self, buildah: &Buildah) -> Result<()> {
        let image = have(buildah, &self.image)?;
        let symbols = self.symvers.as_ref().map(std::fs::read_to_string).transpose();
        let symbols =
            symbols.with_context(|| format!("cannot read {}", self.symvers.clone().unwrap_or_default().display()))?;
        let expected = Expected {
            kernel_in_tag: kernel_in_tag(&self.image),
            driver_version: self.driver_version.clone(),
            arch: image.arch.parse().ok(),
            modules: self.modules.iter().map(|name| name.replace('-', "_")).collect(),
            firmware: self.needs_firmware.clone(),
            kernel_symbols: symbols.map(|text| symvers::parse(&text)),
        };
        let contents = unpack::image(buildah, &self.image)?;
        for warning in warnings(&contents, &expected) {
            eprintln!("warning: {}: {warning}", self.image);
        }
        let lies: Vec<String> = verify(&contents, &expected).iter().map(ToString::to_string).collect();
        if lies.is_empty() {
            println!("{} is what it says it is", self.image);
            return Ok(());
        }
        Err(Error::Untrue { image: self.image.clone(), lies }.into())
    }
}

/// Verifies driver images and pushes them to their registry
#[derive(Debug, Args)]
pub struct Push {
    /// Images to push
    #[arg(required = true)]
    images: Vec<String>,
    /// Push into this repository instead of the one in the images' names; tags stay
    #[arg(long, value_name = "REPOSITORY")]
    to: Option<String>,
    /// Accept plain HTTP and certificates of unknown authorities
    #[arg(long)]
    insecure: bool,
}

impl Push {
    pub fn run(&self, buildah: &Buildah) -> Result<()> {
        for image in &self.images {
            let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
            let Some(tag) = tag else { bail!("{image} has no tag: name images as `build` prints them") };
            let to = self.to.as_ref().map(|repository| format!("{repository}:{tag}"));
            println!("{}", push::push(buildah, image, to.as_deref(), push::Tls { insecure: self.insecure })?);
        }
        Ok(())
    }
}

/// What is known of an image, pulled if it is not here.
fn have(buildah: &Buildah, image: &str) -> Result<Image> {
    if let Some(found) = buildah.inspect(image)? {
        return Ok(found);
    }
    buildah.run(["pull", "--quiet", image]).map_err(|error| match error {
        Error::Program { said, .. } => {
            Error::Input(format!("{image} is not here and cannot be pulled ({said}): check its name and the registry"))
        }
        other => other,
    })?;
    buildah.inspect(image)?.with_context(|| format!("{image} was pulled and is not here"))
}
