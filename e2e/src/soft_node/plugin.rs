//! The device plugin of a soft node: what the real one offers and gives, without the calls between it and its kubelet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cxi_api::Advertise;
use cxi_device_plugin::{
    kubelet_api::{device_id::DeviceId, proto::v1beta1::HEALTHY},
    nics::inventory::Inventory,
    offer::{Gate, Published, allocate::allocate, preferred::preferred},
};
use cxi_injection::provision::Provision;

use super::plan::PluginPlan;

/// What a pod was given of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allocation {
    pub(crate) resource: String,
    /// Device ids, as the kubelet knows them.
    pub(crate) ids: Vec<String>,
    /// Names of the device nodes in the pod's container.
    pub(crate) nodes: Vec<String>,
}

/// The list that a plugin sent, and the state that it answers from.
#[derive(Debug)]
pub(crate) struct Offer {
    published: Published,
    /// Every id, and whether it is healthy.
    devices: BTreeMap<String, bool>,
}

impl Offer {
    /// What a plugin sends that finds `inventory`, on a node that is to advertise `advertise`, where the ids `allocated`
    /// belong to pods; the `earlier` list if it is still true.
    pub(crate) fn new(
        plan: &PluginPlan,
        inventory: Inventory,
        advertise: Advertise,
        allocated: &BTreeSet<String>,
        earlier: Option<Self>,
    ) -> Self {
        let allocated: BTreeSet<DeviceId> = allocated.iter().filter_map(|id| id.parse().ok()).collect();
        let gate = Gate::of(advertise, allocated);
        let provision = Arc::<Provision>::default();
        let published = Published { inventory, sharing: plan.sharing, gate, provision, cdi: false };
        if let Some(earlier) = earlier.filter(|earlier| earlier.published == published) {
            return earlier;
        }
        let devices = published.devices().into_iter().map(|device| (device.id, device.health == HEALTHY)).collect();
        Self { published, devices }
    }

    /// Number of ids, and of those that are healthy.
    pub(crate) fn counts(&self) -> (i64, i64) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        (count(self.devices.len()), count(self.healthy().count()))
    }

    /// The ids that are healthy.
    pub(crate) fn healthy(&self) -> impl Iterator<Item = &String> {
        self.devices.iter().filter(|(_, healthy)| **healthy).map(|(id, _)| id)
    }

    /// Whether an id is one that a container may be started with.
    pub(crate) fn is_healthy(&self, id: &str) -> bool {
        self.devices.get(id).is_some_and(|healthy| *healthy)
    }

    /// Gives `wanted` of the ids that are not `taken`, as a kubelet does: those that the plugin prefers.
    ///
    /// # Errors
    /// The message of the pod that cannot have them.
    pub(crate) fn allocate(
        &self,
        resource: &str,
        wanted: usize,
        taken: &BTreeSet<String>,
    ) -> Result<Allocation, String> {
        let free: Vec<String> = self.healthy().filter(|id| !taken.contains(*id)).cloned().collect();
        if free.len() < wanted {
            return Err(too_few(resource, wanted, free.len()));
        }
        let failed = |error: &dyn std::fmt::Display| format!("Allocate failed due to rpc error: {error}");
        let ids = preferred(&self.published.inventory, &free, &[], wanted).map_err(|error| failed(&error))?;
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let answer = allocate(&self.published, &ids).map_err(|error| failed(&error))?;
        let nodes = answer.response.devices.iter().filter_map(|node| node.host_path.strip_prefix("/dev/"));
        Ok(Allocation { resource: resource.to_owned(), nodes: nodes.map(str::to_owned).collect(), ids })
    }
}

/// What a kubelet says of a pod that wants more than there is.
pub(crate) fn too_few(resource: &str, wanted: usize, available: usize) -> String {
    format!(
        "Allocate failed due to requested number of devices unavailable for {resource}. \
         Requested: {wanted}, Available: {available}"
    )
}
