//! Where the driver comes from.

use cxi_api::{driver::SourceType, source};
use cxi_driver_image_format::Base;

/// Where the driver comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The hosts bring it.
    Preinstalled,
    /// KMM loads it from images.
    Images(Builds),
    /// KMM is to load it from images, and something is not said that it needs for that.
    Incomplete(Lack),
}

/// Which images are built in the cluster when they do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builds {
    None,
    /// Those for kernels whose names tell for sure whose they are.
    ForKnownKernels,
    /// All: the image to build in is named.
    ForEveryKernel,
}

/// What is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Where driver images are.
    Repository,
    /// What they are built from.
    Sources,
}

impl Source {
    pub(super) fn read(written: &source::Source) -> Self {
        let mapped = !written.kernel_mappings.is_empty();
        if written.kind == SourceType::Preinstalled {
            Self::Preinstalled
        } else if written.repository_of_images().is_none() && !mapped {
            Self::Incomplete(Lack::Repository)
        } else if written.kind == SourceType::Dkms && !mapped && !written.has_sources() {
            Self::Incomplete(Lack::Sources)
        } else {
            Self::Images(match (written.builds(), &written.builder_image) {
                (false, _) => Builds::None,
                (true, None) => Builds::ForKnownKernels,
                (true, Some(_)) => Builds::ForEveryKernel,
            })
        }
    }

    /// Whether driver images that do not exist are built in the cluster.
    pub fn builds(self) -> bool {
        matches!(self, Self::Images(Builds::ForKnownKernels | Builds::ForEveryKernel))
    }

    /// Whether one for this kernel is.
    pub fn builds_for(self, kernel: &str) -> bool {
        match self {
            Self::Images(Builds::ForEveryKernel) => true,
            Self::Images(Builds::ForKnownKernels) => Base::is_told_by(kernel),
            Self::Images(Builds::None) | Self::Preinstalled | Self::Incomplete(_) => false,
        }
    }
}
