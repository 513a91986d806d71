//! What is watched: the caches. What the engine is told of them is made in [`cxi_world`].

pub mod caches;

pub use caches::Caches;
pub use cxi_world::{
    Identity, Snapshot, applied, applied_hash, build, operands_of, pod, resource_names, seen, wanted_operands,
};
