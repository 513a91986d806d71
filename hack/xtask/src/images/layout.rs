//! Where images, and what they are made of, lie.

use std::path::PathBuf;

use cxi_images::Image;

use super::architecture::Architecture;
use crate::steps::target;

/// Everything about images.
pub fn directory() -> PathBuf {
    target().join("images")
}

/// The archive of an image.
pub fn archive(image: Image, arch: Architecture) -> PathBuf {
    directory().join(arch.name()).join(format!("{image}.tar"))
}

/// Bills of materials and licences.
pub fn bills(arch: Architecture) -> PathBuf {
    directory().join(arch.name())
}

/// What an image is made of.
pub fn context(image: Image, arch: Architecture) -> PathBuf {
    directory().join(arch.name()).join("context").join(image.name())
}
