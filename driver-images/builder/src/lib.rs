//! Builds driver images from DKMS sources, looks into them and proves them right: the work behind
//! `cargo xtask driver-image`.
//!
//! `source` and `stage` bring what an image is built from, `architecture` says for which machines, `build` has buildah build it,
//! `unpack` and `verify` look into the result before it gets its name. `storage` removes what builds leave. `matrix` builds many;
//! `cluster` and `registry` say which there should be and which are.
//!
//! Invariant: an image gets its name only after the ELF files in it were compared with its manifest.
#![forbid(unsafe_code)]

pub mod architecture;
pub mod build;
pub mod buildah;
pub mod cluster;
pub mod elf;
mod error;
pub mod inspect;
pub mod kernels;
pub mod matrix;
pub mod push;
pub mod registry;
pub mod source;
mod stage;
pub mod storage;
pub mod symvers;
mod tree;
pub mod unpack;
pub mod verify;

pub use error::{Error, Result};
