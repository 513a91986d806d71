//! `world` never drops an object because it could not be read: what cannot be read counts as the worst that it may be.
//!
//! From what the API server says to what the engine is told. Everything here is pure: JSON and a [`Snapshot`] of objects go in, a
//! [`cxi_rollout::World`] comes out. How the objects are watched or listed is the business of the program that does it.
//!
//! Where to find what:
//! - [`seen`]: the objects, one file for each kind, read into small types of our own that skip what is not used.
//! - [`Snapshot`]: all of them at one moment. [`Remembered`]: what is known beside them.
//! - [`build`]: the world of both. `driver`, `node`, [`pod`], `kmm`, `budgets`, `operands`: its parts.
#![forbid(unsafe_code)]

mod budgets;
mod build;
mod driver;
mod kmm;
mod node;
mod operands;
pub mod pod;
mod preflight;
pub mod remembered;
pub mod seen;
mod snapshot;

pub use build::{Identity, build};
pub use operands::{applied, applied_hash, operands_of, resource_names, wanted_operands};
pub use remembered::Remembered;
pub use snapshot::{ByName, Snapshot};
