//! `cargo xtask driver-image`

mod build;
mod cluster;
mod images;
mod prune;
mod recipe;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use cxi_driver_image_builder::buildah::Buildah;

/// Builds driver images by DKMS, looks into them, and brings them into a registry
///
/// A driver image holds the driver's kernel modules for one kernel, which KMM loads on nodes. docs/driver-images.md goes
/// through it, from HPE's sources to a registry. Needs buildah; nothing of it needs a cluster but list-kernels.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// Keep images in this directory, which has nothing else, instead of the user's container storage
    #[arg(long, global = true, value_name = "DIRECTORY")]
    storage: Option<PathBuf>,
    /// How steps of builds are isolated: oci, rootless or chroot, which needs the least; as buildah decides when left out
    #[arg(long, global = true, value_name = "KIND", env = "BUILDAH_ISOLATION")]
    isolation: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Task {
    Build(build::Build),
    Matrix(build::Matrix),
    Inspect(images::Inspect),
    Verify(images::Verify),
    Push(images::Push),
    ListKernels(cluster::ListKernels),
    Prune(prune::Prune),
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let buildah = Buildah { storage: arguments.storage.clone(), isolation: arguments.isolation.clone() };
    match &arguments.task {
        Task::Build(arguments) => arguments.run(&buildah),
        Task::Matrix(arguments) => arguments.run(&buildah),
        Task::Inspect(arguments) => arguments.run(&buildah),
        Task::Verify(arguments) => arguments.run(&buildah),
        Task::Push(arguments) => arguments.run(&buildah),
        Task::ListKernels(arguments) => arguments.run(),
        Task::Prune(arguments) => arguments.run(&buildah),
    }
}
