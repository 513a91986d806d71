//! The ordered driver upgrade as a pure function: a [`World`] and a time go in, a [`Plan`] comes out. Nothing here talks to
//! a cluster, reads a clock or keeps state; what must be remembered is in the world, because it is in the API.
//!
//! Where to find what:
//! - [`world`]: what the engine is told.
//! - [`action`]: what it may ask for.
//! - [`proof`]: the two facts without which no driver is unloaded or loaded.
#![forbid(unsafe_code)]

pub mod action;
pub mod proof;
pub mod settings;
pub mod world;

pub use action::{Action, Plan};
pub use settings::Settings;
pub use world::World;
