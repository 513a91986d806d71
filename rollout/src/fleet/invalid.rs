//! A CXIDriver whose spec says what cannot be. Its nodes stay as they are until the field is put right, and it says so.

use cxi_api::{CXIDriverStatus, Timestamp};

use crate::{
    action::Action,
    driver::obstacle::Obstacle,
    fleet::{conditions::Conditions, status::BLOCKED},
    preflight,
    view::View,
    world::Driver,
};

/// Says it of the CXIDriver and of its CXIPreflights.
pub fn plan(world: &View<'_>, driver: &Driver, obstacle: &Obstacle, now: Timestamp) -> Vec<Action> {
    let mut actions = preflight::plan::held(world, driver, obstacle, now);
    let old = &driver.status;
    let message =
        format!("{}. Until then the operator changes nothing on the nodes of this CXIDriver", obstacle.message);
    let mut set = Conditions { generation: driver.generation, now, old: &old.conditions, new: Vec::new() };
    set.put(BLOCKED, true, obstacle.kind.as_str(), &message);
    let mut conditions = old.conditions.clone();
    for blocked in set.new {
        match conditions.iter_mut().find(|known| known.type_ == BLOCKED) {
            Some(known) => *known = blocked,
            None => conditions.push(blocked),
        }
    }
    let status = CXIDriverStatus {
        observed_generation: driver.generation,
        state: Some(BLOCKED.into()),
        conditions,
        ..old.clone()
    };
    actions.extend((status != *old).then(|| Action::WriteDriverStatus {
        driver: driver.name.clone(),
        status: Box::new(status),
        urgent: true,
    }));
    actions
}
