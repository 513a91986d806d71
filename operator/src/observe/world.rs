//! The whole world, put together from one snapshot.

use std::collections::{BTreeMap, BTreeSet};

use cxi_rollout::{
    World, selector,
    world::{DisruptionBudget, Driver, Holder, Node, Revision},
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;

use crate::{
    memory::Remembered,
    observe::{Snapshot, driver, kmm, node, pod, resource_names},
    render::Images,
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
        let Some(node) = nodes.get_mut(&config.name_any()) else { continue };
        node.kmm_wants = kmm::ours(&config.spec.modules, &identity.namespace);
        let has = config.status.as_ref().map(|status| status.modules.as_slice()).unwrap_or_default();
        node.kmm_has = kmm::ours(has, &identity.namespace);
    }
    for (name, (_, looks)) in &memory.looks {
        if let Some(node) = nodes.get_mut(name) {
            node.looks.clone_from(looks);
        }
    }
    let mut drivers: Vec<Driver> = seen
        .drivers
        .iter()
        .map(|one| driver::driver(one, seen, memory, &identity.images, &identity.namespace))
        .collect();
    drivers.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    World {
        namespace: identity.namespace.clone(),
        kmm_present: seen.kmm_present,
        agent_policy: memory.agent_policy,
        own_node: identity.own_node.clone(),
        drivers,
        revisions: revisions(seen, &nodes),
        disruption_budgets: budgets(seen, &nodes),
        unreadable_drivers: Vec::new(),
        requested: requested(seen),
        nodes,
    }
}

fn requested(seen: &Snapshot) -> BTreeSet<String> {
    seen.holders.iter().flat_map(|pod| pod::requested(pod)).map(str::to_owned).collect()
}

fn nodes(seen: &Snapshot) -> BTreeMap<String, Node> {
    let records: BTreeMap<String, _> = seen.records.iter().map(|r| (r.name_any(), r.as_ref())).collect();
    seen.nodes
        .iter()
        .map(|object| {
            let name = object.name_any();
            let node = node::node(object, records.get(&name).copied());
            (name, node)
        })
        .collect()
}

fn place_holders(
    nodes: &mut BTreeMap<String, Node>,
    seen: &Snapshot,
    memory: &Remembered,
    resources: &BTreeSet<String>,
) {
    for object in &seen.holders {
        let Some(node) = pod::node_name(object).and_then(|name| nodes.get_mut(name)) else { continue };
        if let Some(mut holder) = pod::holder(object, resources) {
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
        let Some(node) = pod::node_name(object).and_then(|name| nodes.get_mut(name)) else { continue };
        node.workers.extend(pod::worker(object));
        node.pods.extend(pod::own(object));
    }
    for node in nodes.values_mut() {
        node.workers.sort_by(|a, b| a.module.cmp(&b.module));
        node.pods.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

fn revisions(seen: &Snapshot, nodes: &BTreeMap<String, Node>) -> Vec<Revision> {
    let kernels: BTreeSet<&str> = nodes.values().map(|node| node.kernel.as_str()).collect();
    let problems = kmm::pull_problems(seen.own_pods.iter().map(AsRef::as_ref));
    let images: BTreeMap<String, _> = seen.images.iter().map(|i| (i.name_any(), i.as_ref())).collect();
    let containerfiles: BTreeSet<String> = seen.containerfiles.iter().map(|one| one.name_any()).collect();
    let mut revisions: Vec<Revision> = seen
        .modules
        .iter()
        .filter_map(|one| {
            let name = one.name_any();
            let containerfile = containerfiles.contains(&name);
            kmm::revision(one, images.get(&name).copied(), &kernels, &problems, containerfile)
        })
        .collect();
    revisions.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    revisions
}

fn budgets(seen: &Snapshot, nodes: &BTreeMap<String, Node>) -> Vec<DisruptionBudget> {
    let holders: Vec<&Holder> = nodes.values().flat_map(|node| &node.holders).collect();
    let mut budgets: Vec<DisruptionBudget> =
        seen.budgets.iter().filter_map(|budget| covering(budget, &holders)).collect();
    budgets.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    budgets
}

fn covering(budget: &PodDisruptionBudget, holders: &[&Holder]) -> Option<DisruptionBudget> {
    let namespace = budget.namespace().unwrap_or_default();
    let selector = budget.spec.as_ref()?.selector.as_ref()?;
    let covers: Vec<String> = holders
        .iter()
        .filter(|holder| holder.namespace == namespace && selector::matches(selector, &holder.labels))
        .map(|holder| holder.uid.clone())
        .collect();
    if covers.is_empty() {
        return None;
    }
    // A status that speaks of an earlier spec allows nothing; the API server sees it the same way.
    let status = budget.status.as_ref().filter(|status| {
        status.observed_generation.unwrap_or_default() >= budget.metadata.generation.unwrap_or_default()
    });
    let allowed = status.map_or(0, |status| status.disruptions_allowed);
    let most = status.map_or(0, |status| status.expected_pods - status.desired_healthy);
    Some(DisruptionBudget {
        namespace,
        name: budget.name_any(),
        covers,
        allowed,
        most,
        spares_unready: false,
        broken: None,
    })
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
