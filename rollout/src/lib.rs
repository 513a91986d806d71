//! The ordered driver upgrade as a pure function: a [`World`] and a time go in, a [`Plan`] comes out. Nothing here talks to
//! a cluster, reads a clock or keeps state; what must be remembered is in the world, because it is in the API.
//!
//! Where to find what, from the whole to the parts:
//! - [`world`]: what the engine is told. [`action`]: what it may ask for.
//! - `intent`: what a CXIDriver asks for; only it reads the spec.
//! - `fleet`: the plan for one CXIDriver. `driver`: its nodes, its ledger and what is in its way.
//! - `admission`: who may go next, with a file for each rule.
//! - `step`: one node. `phases`: what each phase decides, in the order of an upgrade. `transaction`: how a decision becomes a record.
//! - `evidence`: [`proof`], the two facts without which no driver is unloaded or loaded, and [`looks`], what counts for them.
//! - `preflight`: a release that a CXIPreflight asks about, and the node that tries it.
//! - `node`: gates, requests, drift, retry handlers and what emptying a node would disturb.
#![forbid(unsafe_code)]

pub mod action;
mod admission;
mod blocked;
mod driver;
mod evidence;
mod fleet;
mod intent;
mod maps;
mod node;
mod phases;
mod preflight;
mod settings;
mod step;
mod text;
mod transaction;
mod view;
pub mod world;

use std::cell::Cell;

pub use action::{Action, Plan};
use cxi_api::Timestamp;
pub use driver::installation::another as another_installation;
use driver::ownership;
pub use evidence::{looks, proof};
use fleet::plan::Room;
pub use node::{request::unknown as unknown_request, selector};
use preflight::plan::homeless;
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
    let view = View::new(world);
    let ownership = ownership::ownership(&view);
    let wake = Cell::new(None);
    let mut actions = Vec::new();
    let room = Room { world: &view, ownership: &ownership, settings, now, wake: &wake };
    for (driver, intent) in view.drivers() {
        actions.extend(room.plan(driver, intent));
    }
    actions.extend(ownership::strays(&view, &ownership));
    actions.extend(homeless(world, now));
    actions.extend(world.unreadable_drivers.iter().filter(|driver| !driver.told).map(|driver| Action::SayUnreadable {
        driver: driver.name.clone(),
        uid: driver.uid.clone(),
        message: driver.why.clone(),
    }));
    Plan { actions, wake: wake.get() }
}
