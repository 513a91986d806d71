//! The package for the Operator Lifecycle Manager: the bundle, byte for byte, and what a catalog and a cluster need beside it.

mod bundle;
pub mod catalog;
mod csv;
mod descriptors;
pub mod installer;
mod manifests;
mod metadata;

use cxi_images::Lock;

use crate::yaml;

pub use bundle::bundle;
pub use metadata::dockerfile;

/// Name of the package.
pub const PACKAGE: &str = "cxi-operator";

/// Channel of the package: within a major version nothing that worked stops working.
pub const CHANNEL: &str = "stable-v0";

/// Which OLM a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavour {
    /// OLM of `OperatorHub`, which brings KMM along as a dependency.
    V0,
    /// OLM v1, which refuses bundles with dependencies.
    V1,
}

/// What goes into a bundle.
#[derive(Clone, Debug)]
pub struct Release<'a> {
    /// Version, as in 1.2.3.
    pub version: &'a str,
    /// Images.
    pub images: &'a Lock,
    /// Which OLM it is for.
    pub flavour: Flavour,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An authored text in `olm/` cannot be understood.
    #[error("cannot understand olm/{0}")]
    Source(&'static str, #[source] Box<serde_saphyr::Error>),
    /// A text cannot be written.
    #[error(transparent)]
    Write(#[from] yaml::Error),
}

impl Release<'_> {
    /// Name of the ClusterServiceVersion.
    pub fn name(&self) -> String {
        format!("{PACKAGE}.v{}", self.version)
    }
}
