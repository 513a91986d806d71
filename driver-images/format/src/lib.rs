//! `driver-images` makes texts of texts: the same release, kernel and layout always make the same Containerfile.
//!
//! Driver images, as text: how they are named, in which image a kernel's modules are built, the Containerfiles that build
//! them, here and in a cluster, and the manifest by which they say what is in them. Pure; the shell scripts that do the work lie
//! in `driver-images/scripts/`.
//!
//! Invariant: no I/O. The builder and the operator make the same stages from the same text.
#![forbid(unsafe_code)]

pub mod base;
pub mod containerfile;
pub mod kernel;
pub mod layout;
pub mod manifest;
pub mod script;

pub use base::Base;
pub use kernel::{ImageTag, KernelName};
pub use layout::Layout;
pub use manifest::ImageManifest;
