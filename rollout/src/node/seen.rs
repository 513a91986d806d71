//! A node with what is asked of it again and again, read once per plan: in a large cluster no node stays in the processor's caches until
//! it is asked the next time.

use std::ops::Deref;

use cxi_api::{
    NodeReport,
    names::{
        DEVICE_PLUGIN_GATE_PREFIX, DRIVER_LABEL, DRIVER_VERSION_LABEL, GROUP, RETRY_HANDLER_GATE_PREFIX, UPGRADE_LABEL,
    },
};

use crate::{
    evidence::labels::{Few, KmmLabels},
    maps::Map,
    node::request::Request,
    world::{Driver, Holder, Node, Revision, World},
};

/// See the module.
#[derive(Debug)]
pub struct Seen<'a> {
    node: &'a Node,
    /// The labels by which KMM loads drivers.
    pub kmm: KmmLabels<'a>,
    /// The labels of ours.
    pub ours: OurLabels<'a>,
    /// The CXIDriver that the node belongs to: its label names it, and it exists. Where the label was changed while another CXIDriver has
    /// its driver there, that one.
    pub owner: Option<&'a str>,
    /// Whether the owner's selector matches.
    pub is_selected: bool,
    /// Pods on the node that hold NICs of the owner, under whatever name they got them. A pod that cannot be read may be one.
    pub holders: Vec<&'a Holder>,
    /// How much the kubelet offers under the name under which the owner offers NICs.
    pub allocatable: i64,
    /// How much of the owner's NICs the kubelet offers, under all names together.
    pub offered: i64,
    /// Value of the gate of the owner's device plugin.
    pub plugin: Option<&'a str>,
    /// Value of the gate of the owner's retry handler.
    pub retry_handler: Option<&'a str>,
    /// The place of the node's kernel among those of all nodes.
    pub kernel_place: usize,
    report: Option<&'a NodeReport>,
}

/// Labels of ours on a node.
#[derive(Debug, Default)]
pub struct OurLabels<'a> {
    /// The CXIDriver that the node belongs to.
    pub driver: Option<&'a str>,
    /// The driver's release.
    pub release: Option<&'a str>,
    /// What an administrator asks for.
    pub request: Option<Request<'a>>,
    plugins: Few<'a>,
    retry_handlers: Few<'a>,
}

/// What is the same for all nodes of a plan.
pub struct Reader<'a> {
    ours: String,
    modules: String,
    namespace: &'a str,
    revisions: &'a [Revision],
    owners: Map<&'a str, Option<Owner<'a>>>,
    kernels: Map<&'a str, usize>,
}

/// A CXIDriver that can be read, with the names of its NICs, the present one first.
struct Owner<'a> {
    driver: &'a Driver,
    resources: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    /// Looks at the CXIDrivers.
    pub fn new(world: &'a World) -> Self {
        let owner = |driver: &'a Driver| Owner { driver, resources: driver.resource_names().collect() };
        let readable = world.drivers.iter().map(|driver| (driver.name.as_str(), Some(owner(driver))));
        let unreadable = world.unreadable_drivers.iter().map(|driver| (driver.name.as_str(), None));
        Self {
            ours: format!("{GROUP}/"),
            modules: KmmLabels::modules(&world.namespace),
            namespace: &world.namespace,
            revisions: &world.revisions,
            owners: unreadable.chain(readable).collect(),
            kernels: Map::default(),
        }
    }

    /// Looks at a node.
    pub fn see(&mut self, node: &'a Node) -> Seen<'a> {
        let next = self.kernels.len();
        let kernel_place = *self.kernels.entry(node.kernel.as_str()).or_insert(next);
        let ours = OurLabels::among(node.labels_below(&self.ours));
        let kmm = KmmLabels::of(node, self.namespace, &self.modules);
        let labelled = ours.driver.and_then(|name| self.owners.get_key_value(name));
        let owner = labelled.map(|labelled| self.displaced(node, &ours, &kmm).unwrap_or(labelled));
        let readable = owner.and_then(|(_, owner)| owner.as_ref());
        let amount = |name: &&str| node.allocatable.get(*name).copied().unwrap_or(0);
        let resources = readable.map_or(&[][..], |owner| &owner.resources);
        let holds = |holder: &&Holder| {
            holder.unreadable || holder.resources.iter().any(|name| resources.contains(&name.as_str()))
        };
        Seen {
            kmm,
            is_selected: readable.is_some_and(|owner| owner.driver.selects(node)),
            holders: if readable.is_some() { node.holders.iter().filter(holds).collect() } else { Vec::new() },
            allocatable: resources.first().map_or(0, amount),
            offered: resources.iter().map(amount).sum(),
            report: node.report(),
            plugin: owner.and_then(|(name, _)| ours.plugins.get(name)),
            retry_handler: owner.and_then(|(name, _)| ours.retry_handlers.get(name)),
            kernel_place,
            owner: owner.map(|(name, _)| *name),
            ours,
            node,
        }
    }
}

impl<'a> Reader<'a> {
    /// The CXIDriver that has not let the node go although its label names another one: the record says so, and so does a gate or the
    /// label by which KMM has loaded its driver. The label alone does not make a node change hands: pods may use its driver.
    fn displaced(
        &self,
        node: &Node,
        ours: &OurLabels<'a>,
        kmm: &KmmLabels<'_>,
    ) -> Option<(&&'a str, &Option<Owner<'a>>)> {
        let record = node.rollout().filter(|record| Some(record.driver.as_str()) != ours.driver)?;
        let name = record.driver.as_str();
        let holds = record.revision.is_some() || record.target_revision.is_some() || record.transaction.is_some();
        let is_of = |value: &str| {
            let mut known = self.revisions.iter();
            known.any(|revision| revision.driver == name && revision.id.as_str() == value)
        };
        let gates = ours.plugins.get(name).is_some() || ours.retry_handlers.get(name).is_some();
        let seen = gates || kmm.versions.iter().any(|(_, value)| is_of(value));
        self.owners.get_key_value(name).filter(|_| holds && seen)
    }
}

impl<'a> OurLabels<'a> {
    /// Those that mean something.
    fn among(labels: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        let mut found = Self::default();
        for (key, value) in labels {
            match key.as_str() {
                DRIVER_LABEL => found.driver = Some(value),
                DRIVER_VERSION_LABEL => found.release = Some(value),
                UPGRADE_LABEL => found.request = Some(Request::named(value)),
                key => {
                    if let Some(driver) = key.strip_prefix(DEVICE_PLUGIN_GATE_PREFIX) {
                        found.plugins.push(driver, value);
                    } else if let Some(driver) = key.strip_prefix(RETRY_HANDLER_GATE_PREFIX) {
                        found.retry_handlers.push(driver, value);
                    }
                }
            }
        }
        found
    }
}

impl<'a> Seen<'a> {
    /// The node itself.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Value of the gate of a CXIDriver's retry handler.
    pub fn retry_handler_of(&self, driver: &str) -> Option<&'a str> {
        if self.owner == Some(driver) { self.retry_handler } else { self.ours.retry_handlers.get(driver) }
    }

    /// See [`Node::report`].
    pub fn report(&self) -> Option<&'a NodeReport> {
        self.report
    }
}

impl Deref for Seen<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node
    }
}
