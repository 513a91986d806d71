//! Which CXIDriver owns which node. A node label names the owner; it is set when a driver takes a node and removed after its
//! driver was unloaded in order, so a node never changes hands with a driver loaded.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cxi_api::names::DRIVER_LABEL;

use crate::{
    action::Action,
    evidence::labels::version_labels,
    world::{Driver, Node, World},
};

/// Who owns what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership<'a> {
    /// Owner by node.
    pub owner: HashMap<&'a str, &'a str>,
    /// Drivers that may take this node, by node; the node carries no label of a living driver.
    pub claims: BTreeMap<String, String>,
    /// Why a driver touches nothing, by driver: another one was there first.
    pub conflicts: BTreeMap<String, String>,
}

/// Whether a driver's selector matches a node.
pub fn selects(driver: &Driver, node: &Node) -> bool {
    driver.spec.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

/// Works out who owns what. Among drivers that want a node the oldest gets it (then the first by name).
pub fn ownership(world: &World) -> Ownership<'_> {
    let mut drivers: Vec<&Driver> = world.drivers.iter().collect();
    drivers.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let readable = drivers.iter().map(|driver| driver.name.as_str());
    let unreadable = world.unreadable_drivers.iter().map(|driver| driver.name.as_str());
    let names: BTreeSet<&str> = readable.chain(unreadable).collect();
    let mut result = Ownership::default();

    for node in world.nodes.values() {
        let label = node.labels.get(DRIVER_LABEL).map(String::as_str);
        let labelled = label.filter(|name| names.contains(name));
        let dead = label.filter(|name| !names.contains(name));
        let loaded = || version_labels(node, &world.namespace).next().is_some();
        let mut wanting = drivers.iter().filter(|driver| !driver.deleting && selects(driver, node));
        if let Some(owner) = labelled {
            result.owner.insert(&node.name, owner);
            for driver in wanting.filter(|driver| driver.name != owner) {
                conflict(&mut result, driver, format!("CXIDriver {owner} owns node {}", node.name));
            }
            continue;
        }
        if let Some(dead) = dead.filter(|_| loaded()) {
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
        result.claims.insert(node.name.clone(), first.name.clone());
        for driver in wanting {
            conflict(&mut result, driver, format!("the older CXIDriver {} selects node {} too", first.name, node.name));
        }
    }
    // A driver that is itself in conflict takes nothing.
    let Ownership { claims, conflicts, .. } = &mut result;
    claims.retain(|_, driver| !conflicts.contains_key(driver));
    result
}

fn conflict(result: &mut Ownership<'_>, driver: &Driver, why: String) {
    result.conflicts.entry(driver.name.clone()).or_insert(why);
}

/// Records of nodes that belong to no CXIDriver, and records that an earlier Node of the same name left behind.
pub fn strays(world: &World, ownership: &Ownership<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    for node in world.nodes.values() {
        if let Some(uid) = &node.stale_record {
            actions.push(Action::DeleteRecord { node: node.name.clone(), uid: uid.clone() });
        } else if let Some(record) = &node.record
            && !ownership.owner.contains_key(node.name.as_str())
            && !ownership.claims.contains_key(&node.name)
        {
            actions.push(Action::DeleteRecord { node: node.name.clone(), uid: record.uid.clone() });
        }
    }
    actions
}
