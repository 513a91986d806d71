//! `cargo xtask images`

mod architecture;
mod buildah;
mod layout;
mod programs;
mod push;
mod source;

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use cxi_images::{Archive, Image, MAX_BYTES};

use crate::steps::{Steps, built, cargo};
use architecture::Architecture;

/// Profile of programs that are published.
const PUBLISHED: &str = "release";

/// Profile of programs that are built for tests only.
const QUICK: &str = "image";

/// Builds, shows and publishes the container images
///
/// One static program or two on nothing (`FROM scratch`), with the licences and a bill of materials. The same commit on the
/// same machine gives the same bytes. Needs buildah.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Build(Build),
    Inspect(Which),
    Push(push::Push),
}

/// Builds images into archives under target/images
///
/// An archive has the form of the Open Container Initiative: `podman load -i`, `ctr images import` and `skopeo copy
/// oci-archive:` read it. Beside it lies the bill of materials.
#[derive(Debug, Args)]
pub struct Build {
    #[command(flatten)]
    which: Which,
    /// Cargo profile of the programs: release is what is published, image builds faster
    #[arg(long, value_name = "NAME", default_value = PUBLISHED)]
    profile: String,
}

/// Shows images that were built: size, user, digest, labels
#[derive(Debug, Args)]
pub struct Which {
    /// Image to take; all if not given
    #[arg(long = "image", value_name = "NAME")]
    images: Vec<Image>,
    /// Architecture of the nodes
    #[arg(long, value_enum, default_value_t)]
    arch: Architecture,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.task {
        Task::Build(arguments) => {
            let mut steps = Steps::begin();
            build(&mut steps, arguments, cargo(&["run", "--quiet", "--locked", "--package", "cxi-sbom", "--"]))?;
            steps.end();
            Ok(())
        }
        Task::Inspect(which) => inspect(which),
        Task::Push(arguments) => push::run(arguments),
    }
}

/// Builds all images for this machine, after unit tests. Returns the directory that the programs are in.
pub fn build_for_tests(steps: &mut Steps) -> Result<PathBuf> {
    let which = Which { images: vec![], arch: Architecture::default() };
    build(steps, &Build { which, profile: QUICK.to_owned() }, built("cxi-sbom"))
}

/// Builds the images that run on nodes, for this machine.
pub fn build_for_nodes(steps: &mut Steps) -> Result<()> {
    let which = Which { images: vec![Image::Agent, Image::DevicePlugin], arch: Architecture::default() };
    let sbom = cargo(&["run", "--quiet", "--locked", "--package", "cxi-sbom", "--"]);
    build(steps, &Build { which, profile: QUICK.to_owned() }, sbom).map(drop)
}

/// Builds the programs of the images that run on nodes as they are published, for this machine, and no images. Returns the
/// directory that they are in.
pub fn build_programs_of_nodes(steps: &mut Steps) -> Result<PathBuf> {
    let (images, arch) = ([Image::Agent, Image::DevicePlugin], Architecture::default());
    arch.check()?;
    Ok(programs::build(steps, &images, arch, PUBLISHED)?.directory())
}

fn build(steps: &mut Steps, arguments: &Build, sbom: Command) -> Result<PathBuf> {
    let Build { which, profile } = arguments;
    let (images, arch) = (which.images(), which.arch);
    let buildah = buildah::Buildah::find()?;
    arch.check()?;
    let source = source::Source::read()?;
    if let Some(warning) = source.warning() {
        steps.note(warning);
    }
    let programs = programs::build(steps, &images, arch, profile)?;
    programs::bills(steps, sbom, &images, arch, &source)?;
    for image in &images {
        let context = layout::context(*image, arch);
        let step = format!("image {image}");
        steps.call(&step, || {
            programs.lay_out(*image, arch, &context)?;
            buildah.build(*image, arch, &source, &context)
        })?;
    }
    inspect(which)?;
    Ok(programs.directory())
}

fn inspect(which: &Which) -> Result<()> {
    println!("{:18} {:6} {:>9} {:>11} {:12} digest", "image", "arch", "unpacked", "compressed", "user");
    for image in which.images() {
        let archive = Archive::read(&layout::archive(image, which.arch)).context("build the images first")?;
        let (unpacked, compressed) = (archive.unpacked(), archive.compressed());
        println!(
            "{image:18} {:6} {:>5.1} MiB {:>7.1} MiB {:12} {}",
            archive.architecture,
            mebibytes(unpacked),
            mebibytes(compressed),
            archive.user,
            archive.digest
        );
        for (key, value) in &archive.labels {
            println!("    {key}={value}");
        }
        ensure!(unpacked <= MAX_BYTES, "{image} has {unpacked} bytes, and may have {MAX_BYTES}");
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl Which {
    fn images(&self) -> Vec<Image> {
        if self.images.is_empty() { Image::ALL.to_vec() } else { self.images.clone() }
    }
}
