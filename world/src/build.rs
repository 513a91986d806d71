//! The whole world, put together from one snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cxi_manifests::images::Images;
use cxi_rollout::{
    World,
    world::{DisruptionBudget, Driver, Node, Revision},
};

use crate::{
    Snapshot,
    budgets::{self, Budget},
    driver, kmm, node, pod, preflight,
    remembered::Remembered,
    resource_names,
    seen::{self, Object},
};

/// Who and where the operator is.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Its namespace.
    pub namespace: String,
    /// Its node, if it runs in the cluster.
    pub own_node: Option<String>,
    /// The images that it runs when a CXIDriver names none.
    pub images: Images,
}

/// Builds the world.
pub fn build(seen: &Snapshot, memory: &Remembered, identity: &Identity) -> World {
    let mut nodes = nodes(seen);
    let resources = resource_names(seen);
    place_holders(&mut nodes, seen, memory, &resources);
    place_own_pods(&mut nodes, seen);
    for config in &seen.loaded {
        let Some(node) = nodes.get_mut(config.id.name()) else { continue };
        let Some(modules) = config.readable() else {
            blind(node, config.unreadable());
            continue;
        };
        node.kmm_wants = kmm::ours(&modules.wanted, &identity.namespace);
        node.kmm_has = kmm::ours(&modules.there, &identity.namespace);
    }
    for (name, node) in &mut nodes {
        node.looks.extend_from_slice(memory.looks.at(name));
    }
    let mut drivers: Vec<Driver> = seen
        .drivers
        .iter()
        .filter_map(|one| driver::driver(one, seen, memory, &identity.images, &identity.namespace))
        .collect();
    drivers.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let mut unreadable_drivers: Vec<_> = seen.drivers.iter().filter_map(|one| driver::unreadable(one)).collect();
    unreadable_drivers.sort_by(|a, b| a.name.cmp(&b.name));
    let problems = kmm::Problems::of(seen.own_pods.iter().filter_map(|pod| pod.readable()));
    World {
        preflights: preflight::preflights(seen, memory, &drivers, &nodes, &problems, &identity.namespace),
        unreadable_preflights: preflight::unreadable(seen),
        namespace: identity.namespace.clone(),
        kmm_present: seen.kmm_present,
        agent_policy: memory.agent_policy,
        own_node: identity.own_node.clone(),
        drivers,
        revisions: revisions(seen, &nodes, &problems),
        disruption_budgets: disruption_budgets(seen, &nodes),
        unreadable_drivers,
        nodes,
    }
}

/// Something of the node cannot be read; of several things the first counts.
fn blind(node: &mut Node, why: Option<String>) {
    node.unreadable = node.unreadable.take().or(why);
}

fn nodes(seen: &Snapshot) -> BTreeMap<String, Node> {
    let records: HashMap<&str, _> = seen.records.iter().map(|record| (record.id.name(), record.as_ref())).collect();
    let node = |object: &Object<seen::Node>| {
        let name = object.id.name();
        (name.to_owned(), node::node(object, records.get(name).copied()))
    };
    seen.nodes.iter().map(|object| node(object)).collect()
}

fn place_holders(
    nodes: &mut BTreeMap<String, Node>,
    seen: &Snapshot,
    memory: &Remembered,
    resources: &BTreeSet<String>,
) {
    for object in &seen.holders {
        let (node, holder) = match &object.content {
            Ok(pod) => (&pod.node, pod::holder(&object.id, pod, resources)),
            Err(unreadable) => (&unreadable.remains.node, Some(pod::unreadable(&object.id, resources))),
        };
        let Some(node) = node.as_deref().and_then(|name| nodes.get_mut(name)) else { continue };
        if let Some(mut holder) = holder {
            holder.refused = memory.refusals.get(&holder.uid).map(|refused| refused.refusal.clone());
            node.holders.push(holder);
        }
    }
    for node in nodes.values_mut() {
        node.holders.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    }
}

fn place_own_pods(nodes: &mut BTreeMap<String, Node>, seen: &Snapshot) {
    for object in &seen.own_pods {
        let node = match &object.content {
            Ok(pod) => &pod.node,
            Err(unreadable) => &unreadable.remains.node,
        };
        let Some(node) = node.as_deref().and_then(|name| nodes.get_mut(name)) else { continue };
        match object.readable() {
            Some(pod) => {
                node.workers.extend(pod::worker(pod));
                node.pods.extend(pod::own(&object.id, pod));
            }
            // It may be a worker of KMM, or ours.
            None => blind(node, object.unreadable()),
        }
    }
    for node in nodes.values_mut() {
        node.workers.sort_by(|a, b| a.module.cmp(&b.module));
        node.pods.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

fn revisions(seen: &Snapshot, nodes: &BTreeMap<String, Node>, problems: &kmm::Problems<'_>) -> Vec<Revision> {
    let kernels: BTreeSet<&str> = nodes.values().map(|node| node.kernel.as_str()).collect();
    let images: HashMap<&str, _> = seen.images.iter().map(|one| (one.id.name(), one.readable())).collect();
    let containerfiles: BTreeSet<&str> = seen.containerfiles.iter().map(|one| one.id.name()).collect();
    let mut revisions: Vec<Revision> = seen
        .modules
        .iter()
        .filter_map(|one| {
            let name = one.id.name();
            let images = images.get(name).copied().flatten();
            kmm::revision(name, one.readable()?, images, &kernels, problems, containerfiles.contains(name))
        })
        .collect();
    revisions.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    revisions
}

fn disruption_budgets(seen: &Snapshot, nodes: &BTreeMap<String, Node>) -> Vec<DisruptionBudget> {
    let budgets = seen.budgets.iter().map(|object| Budget::of(object)).collect();
    budgets::covering(budgets, nodes.values().flat_map(|node| &node.holders))
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
