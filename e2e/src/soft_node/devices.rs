//! The device manager of a soft kubelet: which NICs are offered, and which pods can be admitted.

use std::{collections::BTreeMap, time::Duration};

use cxi_api::Advertise;

use super::{
    node::{Pods, Power, SoftNode},
    plan::{PluginPlan, PodPlan, Work},
};

impl SoftNode {
    /// Ids that the kubelet knows and those of them that are offered, per resource.
    pub(crate) fn resources(&self, pods: &Pods, now: Duration) -> BTreeMap<String, (i64, i64)> {
        let mut resources: BTreeMap<String, (i64, i64)> =
            self.capacity.iter().map(|(name, count)| (name.clone(), (*count, 0))).collect();
        if self.power != Power::On || now < self.plugins_from {
            return resources;
        }
        for plan in self.plugins(pods) {
            let all = self.machine.bound_nics() * plan.per_nic;
            let healthy = if self.machine.links_up(now) { all } else { 0 };
            let offered = match self.advertise() {
                Advertise::All => healthy,
                Advertise::InUse => self.machine.allocated().min(healthy),
                Advertise::None => 0,
            };
            let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            resources.insert(plan.resource.clone(), (count(all), count(offered)));
        }
        resources
    }

    fn plugins<'a>(&'a self, pods: &'a Pods) -> impl Iterator<Item = &'a PluginPlan> {
        pods.values().filter_map(|pod| match &pod.work {
            Work::Plugin(plan) if self.pods.get(&pod.uid).is_some_and(|r| r.is_running() && !pod.deleted) => Some(plan),
            _ => None,
        })
    }

    fn advertise(&self) -> Advertise {
        self.cxi.as_ref().map(|cxi| cxi.advertise).unwrap_or_default()
    }

    /// Whether devices that a pod already has are still offered.
    pub(super) fn offers_in_use(&self, pods: &Pods, pod: &PodPlan) -> bool {
        self.advertise() != Advertise::None && self.plugins(pods).any(|plan| pod.requests.contains_key(&plan.resource))
    }

    /// Why the kubelet cannot admit a pod.
    pub(super) fn refusal(&self, pods: &Pods, pod: &PodPlan, now: Duration) -> Option<String> {
        let resources = self.resources(pods, now);
        pod.requests.iter().find_map(|(name, wanted)| {
            let offered = resources.get(name).map_or(0, |(_, offered)| *offered);
            // What is in use is offered to those who use it, not to a new pod.
            let in_use = i64::try_from(self.machine.allocated()).unwrap_or(i64::MAX);
            let free = (offered - in_use).max(0);
            (*wanted > free).then(|| {
                format!(
                    "Allocate failed due to requested number of devices unavailable for {name}. \
                     Requested: {wanted}, Available: {free}"
                )
            })
        })
    }
}
