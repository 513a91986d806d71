//! From what the API server says to what the engine is told. Reading caches is all that happens here; the conversion is pure.

pub mod caches;
mod driver;
mod kmm;
mod node;
pub mod pod;
mod prune;
mod snapshot;
mod world;

pub use caches::Caches;
pub use driver::{applied, applied_hash, resource_names, retiring};
pub use node::{allocatable, taints as node_taints};
pub use snapshot::Snapshot;
pub use world::{Identity, build};
