//! `cargo xtask driver-image prune`

use anyhow::Result;
use clap::Args;
use cxi_driver_image_builder::{
    buildah::Buildah,
    storage::{KEPT_STAGES, prune},
};

/// Removes what builds left: containers of builds that were killed, and images of steps that no build has gone on from lately
///
/// Driver images and builder images, all that has a name, stay (`buildah rmi NAME` removes those). Of the images without a name
/// the newest stay too, for the next build to go on from. Each build does the same when it is the only one; this is for the disk
/// that is full now. In the user's container storage only what this pipeline made is removed, in a --storage of its own
/// everything without a name.
#[derive(Debug, Args)]
pub struct Prune {
    /// How many ends of builds stay, with what they were made on; with 0 the next build begins anew
    #[arg(long, value_name = "NUMBER", default_value_t = KEPT_STAGES)]
    keep: usize,
}

impl Prune {
    pub fn run(&self, buildah: &Buildah) -> Result<()> {
        let pruned = prune(buildah, self.keep)?;
        println!(
            "removed {} containers and {} images; free space {}, before {}",
            pruned.containers,
            pruned.images,
            gigabytes(pruned.free_after),
            gigabytes(pruned.free_before)
        );
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
