//! The ordered driver upgrade as a pure function: a [`World`] and a time go in, a [`Plan`] comes out. Nothing here talks to
//! a cluster, reads a clock or keeps state; what must be remembered is in the world, because it is in the API.
//!
//! Where to find what:
//! - [`world`]: what the engine is told. [`action`]: what it may ask for.
//! - [`proof`]: the two facts without which no driver is unloaded or loaded.
//! - `driver`: one CXIDriver as a whole; `ledger`, `admission`, `disruption`: who may go next; `revisions`: the Modules.
//! - `step`: one node; its phases are in `settled`, `closing`, `reload` and `returning`, in the order of an upgrade;
//!   `prefetch` is the pod that brings the image's manifest.
//! - `drift`: what somebody else changed. `services`: which retry handler goes with which driver.
//! - `gates`: labels and taint of a node; `ownership`: whose a node is; `status`: what an administrator reads.
#![forbid(unsafe_code)]

pub mod action;
mod admission;
mod agents;
mod closing;
mod disruption;
mod drift;
mod driver;
mod gates;
mod host_driver;
mod ledger;
mod operands;
mod ownership;
mod prefetch;
pub mod proof;
mod reload;
mod returning;
mod revisions;
pub mod selector;
mod services;
mod settings;
mod settled;
mod status;
mod step;
pub mod world;

use std::cell::Cell;

pub use action::{Action, Plan};
use cxi_api::Timestamp;
pub use settings::Settings;
pub use world::World;

/// What to do now, and when to look again if nothing happens before.
pub fn plan(world: &World, now: Timestamp, settings: &Settings) -> Plan {
    let ownership = ownership::ownership(world);
    let wake = Cell::new(None);
    let mut actions = Vec::new();
    for driver in &world.drivers {
        actions.extend(driver::plan(&driver::Scope {
            world,
            driver,
            ownership: &ownership,
            settings,
            now,
            wake: &wake,
        }));
    }
    actions.extend(ownership::strays(world, &ownership));
    Plan { actions, wake: wake.get() }
}
