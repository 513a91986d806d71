//! From what the API server says to what the engine is told. Reading caches is all that happens here; the conversion is pure.

mod budgets;
pub mod caches;
mod driver;
mod kmm;
mod node;
mod operands;
pub mod pod;
pub mod seen;
mod snapshot;
mod world;

pub use caches::Caches;
pub use operands::{applied, applied_hash, operands_of, resource_names, wanted_operands};
pub use snapshot::{ByName, Snapshot};
pub use world::{Identity, build};
