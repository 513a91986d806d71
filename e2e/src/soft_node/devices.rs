//! The device manager of a soft kubelet: which NICs are offered, and which of them a pod gets.

use std::{collections::BTreeMap, time::Duration};

use cxi_api::Advertise;
use cxi_device_plugin::nics::{inventory::Inventory, scanner::SCAN_PERIOD};
use cxi_hardware::scan;

use super::{
    node::{Pods, Power, SoftNode},
    plan::{PluginPlan, PodPlan, Work},
    plugin::{Allocation, Offer, too_few},
    report,
};

impl SoftNode {
    /// Takes in what the device plugins of the node send now. One that does not run or has not registered sends nothing.
    pub(super) fn hear_plugins(&mut self, pods: &Pods, now: Duration) {
        let plans = self.plugins(pods, now);
        if plans.is_empty() {
            self.offers.clear();
            return;
        }
        self.inventory = self.look(now);
        let mut earlier = std::mem::take(&mut self.offers);
        for plan in plans {
            let resource = plan.resource.as_str();
            let (inventory, allocated) = (self.inventory.clone(), self.machine.allocated(resource));
            let offer = Offer::new(&plan, inventory, self.advertise(), &allocated, earlier.remove(resource));
            self.offers.insert(resource.to_owned(), offer);
        }
        self.capacity.extend(self.offers.iter().map(|(resource, offer)| (resource.clone(), offer.counts().0)));
    }

    /// When the plugins look at the node again; what they find may change without this process.
    pub(super) fn next_look(&self, now: Duration) -> Option<Duration> {
        (self.tree.is_some() && !self.offers.is_empty()).then_some(now + SCAN_PERIOD)
    }

    /// Ids that the kubelet knows and those of them that are healthy, per resource.
    pub(super) fn resources(&self) -> BTreeMap<String, (i64, i64)> {
        let known = self.capacity.iter().map(|(name, count)| (name.clone(), (*count, 0)));
        known.chain(self.offers.iter().map(|(name, offer)| (name.clone(), offer.counts()))).collect()
    }

    /// Gives a pod what it asks for.
    ///
    /// # Errors
    /// Why the kubelet cannot admit it.
    pub(super) fn allocate(&self, pod: &PodPlan) -> Result<Vec<Allocation>, String> {
        let allocations = pod.requests.iter().map(|(resource, wanted)| {
            let wanted = usize::try_from(*wanted).unwrap_or(usize::MAX);
            let offer = self.offers.get(resource).ok_or_else(|| too_few(resource, wanted, 0))?;
            offer.allocate(resource, wanted, &self.machine.allocated(resource))
        });
        allocations.collect()
    }

    /// Whether a pod may be started again with the devices that it has.
    pub(super) fn offers_what_it_has(&self, uid: &str) -> bool {
        let healthy = |allocation: &Allocation| {
            let offer = self.offers.get(&allocation.resource);
            offer.is_some_and(|offer| allocation.ids.iter().all(|id| offer.is_healthy(id)))
        };
        self.machine.allocations.get(uid).is_some_and(|allocations| allocations.iter().all(healthy))
    }

    /// What a plugin finds on the node: in its files if it has any.
    fn look(&self, now: Duration) -> Inventory {
        let found = match &self.tree {
            None => return Inventory::from_scan(&report::scan(&self.machine, now), &BTreeMap::new()),
            Some(tree) => scan(&tree.root()),
        };
        found.map_or_else(|_| self.inventory.not_scanned(), |found| Inventory::from_scan(&found, &BTreeMap::new()))
    }

    fn plugins(&self, pods: &Pods, now: Duration) -> Vec<PluginPlan> {
        if self.power != Power::On || now < self.plugins_from {
            return Vec::new();
        }
        let plans = pods.values().filter_map(|pod| match &pod.work {
            Work::Plugin(plan) if self.pods.get(&pod.uid).is_some_and(|r| r.is_running() && !pod.deleted) => Some(plan),
            _ => None,
        });
        plans.cloned().collect()
    }

    fn advertise(&self) -> Advertise {
        self.cxi.as_ref().map(|cxi| cxi.advertise).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
