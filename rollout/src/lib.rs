//! The ordered driver upgrade as a pure function: a [`World`] and a time go in, a [`Plan`] comes out. Nothing here talks to
//! a cluster, reads a clock or keeps state; what must be remembered is in the world, because it is in the API.
//!
//! Where to find what:
//! - [`world`]: what the engine is told. [`action`]: what it may ask for.
//! - [`proof`]: the two facts without which no driver is unloaded or loaded. [`looks`]: what counts as evidence for them.
//! - `driver`: one CXIDriver as a whole; `obstacle`: what is in its way; `ledger`, `admission`, `disruption`: who may go next; `revisions`: the Modules.
//! - `step`: one node; its phases are in `settled`, `closing`, `reload` and `returning`, in the order of an upgrade;
//!   `prefetch` is the pod that brings the image's manifest.
//! - `clock`: times of a leader whose clock was ahead. `drift`: what other clients changed. `retry_handler`: which one goes with which driver.
//! - `request`: what an administrator asks of a node. `view`: what is looked up again and again. `text`: how long a message may be.
//! - `gates`: labels and taint of a node; `ownership`: whose a node is; `selection`: many that are not selected any more; `installation`: whose a CXIDriver is; `status`: what an administrator reads.
#![forbid(unsafe_code)]

pub mod action;
mod admission;
mod agents;
mod builds;
mod clock;
mod context;
mod decision;
mod disruption;
mod drift;
mod driver;
mod gates;
mod installation;
mod kernel_log;
mod ledger;
pub mod looks;
mod obstacle;
mod operands;
mod ownership;
mod phases;
pub mod proof;
mod rebuild;
mod record;
mod release;
mod request;
mod retry_handler;
mod revisions;
mod scope;
mod selection;
pub mod selector;
mod settings;
mod status;
mod step;
mod text;
mod view;
pub mod world;

use std::cell::Cell;

pub use action::{Action, Plan};
use cxi_api::{Timestamp, names};
pub use installation::another as another_installation;
pub use request::unknown as unknown_request;
pub use settings::Settings;
use view::View;
pub use world::World;

/// Whether a time limit of any node runs, the end of which is a failure or gives the node back.
pub fn has_limits(world: &World) -> bool {
    let mut ledgers = world.drivers.iter().filter_map(|driver| driver.status.rollout.as_ref());
    let mut phases = world.nodes.values().filter_map(|node| Some(node.rollout()?.phase));
    ledgers.any(|rollout| !rollout.in_flight.is_empty()) || phases.any(|phase| !phase.is_settled())
}

/// What to do now, and when to look again if nothing happens before.
pub fn plan(world: &World, now: Timestamp, settings: &Settings) -> Plan {
    let ownership = ownership::ownership(world);
    let view = View::new(world);
    let wake = Cell::new(None);
    let mut actions = Vec::new();
    for driver in &world.drivers {
        actions.extend(driver::plan(&scope::Scope {
            world: &view,
            driver,
            target: driver.spec.revision(&driver.name),
            plugin_gate: names::device_plugin_gate(&driver.name),
            retry_handler_gate: names::retry_handler_gate(&driver.name),
            ownership: &ownership,
            settings,
            now,
            wake: &wake,
        }));
    }
    actions.extend(ownership::strays(world, &ownership));
    actions.extend(world.unreadable_drivers.iter().filter(|driver| !driver.told).map(|driver| Action::SayUnreadable {
        driver: driver.name.clone(),
        uid: driver.uid.clone(),
        message: driver.why.clone(),
    }));
    Plan { actions, wake: wake.get() }
}
