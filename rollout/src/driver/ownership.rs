//! Which CXIDriver owns which node. A node label names the owner; it is set when a driver takes a node and removed after its
//! driver was unloaded in order, so a node never changes hands with a driver loaded.

use std::collections::BTreeMap;

use crate::{action::Action, view::View, world::Driver};

/// Who may take what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership<'a> {
    /// Drivers that may take this node, by node; the node carries no label of a living driver.
    pub claims: BTreeMap<&'a str, &'a str>,
    /// Why a driver touches nothing, by driver: another one was there first.
    pub conflicts: BTreeMap<&'a str, String>,
}

/// Works out who may take what. Among drivers that want a node the oldest gets it (then the first by name).
pub fn ownership<'a>(view: &'a View<'_>) -> Ownership<'a> {
    let mut drivers: Vec<&Driver> = view.drivers.iter().collect();
    drivers.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let mut result = Ownership::default();

    for node in &view.seen {
        // That its own selector matches stands in the way of no driver.
        let others = drivers.iter().filter(|driver| node.owner != Some(driver.name.as_str()));
        let mut wanting = others.filter(|driver| !driver.deleting && driver.selects(node));
        if let Some(owner) = node.owner {
            for driver in wanting {
                conflict(&mut result, driver, format!("CXIDriver {owner} owns node {}", node.name));
            }
            continue;
        }
        if let Some(dead) = node.ours.driver.filter(|_| !node.kmm.versions.is_empty()) {
            for driver in wanting {
                let why = format!(
                    "node {} still runs the driver of the deleted CXIDriver {dead}; create a CXIDriver of that name to \
                     take it over or to unload it",
                    node.name
                );
                conflict(&mut result, driver, why);
            }
            continue;
        }
        let Some(first) = wanting.next() else { continue };
        result.claims.insert(&node.name, &first.name);
        for driver in wanting {
            conflict(&mut result, driver, format!("the older CXIDriver {} selects node {} too", first.name, node.name));
        }
    }
    // A driver that is itself in conflict takes nothing.
    let Ownership { claims, conflicts, .. } = &mut result;
    claims.retain(|_, driver| !conflicts.contains_key(driver));
    result
}

fn conflict<'a>(result: &mut Ownership<'a>, driver: &'a Driver, why: String) {
    result.conflicts.entry(&driver.name).or_insert(why);
}

/// Records of nodes that belong to no CXIDriver, and records that an earlier Node of the same name left behind.
pub fn strays(view: &View<'_>, ownership: &Ownership<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    for node in &view.seen {
        if let Some(uid) = &node.stale_record {
            actions.push(Action::DeleteRecord { node: node.name.clone(), uid: uid.clone() });
        } else if let Some(record) = &node.record
            && node.owner.is_none()
            && !ownership.claims.contains_key(node.name.as_str())
        {
            actions.push(Action::DeleteRecord { node: node.name.clone(), uid: record.uid.clone() });
        }
    }
    actions
}
