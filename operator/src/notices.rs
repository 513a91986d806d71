//! What is said once when it begins to be so, and is no step of a rollout: retry handlers that ended unasked, upgrade labels that
//! mean nothing, images of a CXIDriver that cannot work, more ids of NICs than a kubelet takes, and CXIDrivers that another
//! installation looks after.

use std::collections::HashSet;

use cxi_api::{Reason, driver::SharingMode};
use cxi_rollout::{World, action::Announcement};

use cxi_manifests::{images::Images, operands::replaced};

/// Everything of the kind that is so now.
pub fn standing(world: &World, images: &Images) -> Vec<Announcement> {
    let mut all = failed(world);
    all.extend(reduced(world));
    all.extend(unknown(world));
    all.extend(world.drivers.iter().filter_map(|driver| {
        Some(Announcement {
            driver: driver.name.clone(),
            node: None,
            warning: true,
            reason: "AnotherInstallation".to_owned(),
            message: cxi_rollout::another_installation(world, driver)?,
        })
    }));
    all.extend(world.drivers.iter().filter(|driver| !driver.deleting).flat_map(|driver| {
        replaced(&driver.spec, images).into_iter().map(|(field, image, ours)| {
            let instead = ours.map_or("nothing runs".to_owned(), |ours| format!("{ours} runs"));
            let message = format!(
                "{field} names {image}, an image of the earlier operator, which cannot work with this one; {instead} instead"
            );
            let reason = "ImageReplaced".to_owned();
            Announcement { driver: driver.name.clone(), node: None, warning: true, reason, message }
        })
    }));
    all
}

/// A kubelet takes lists of 4 MiB. Where a node's NICs have more ids, the device plugin offers fewer of each.
fn reduced(world: &World) -> Vec<Announcement> {
    let shared = world.drivers.iter().filter(|driver| {
        let plugin = &driver.spec.device_plugin;
        !driver.deleting && plugin.enabled && plugin.sharing_mode == SharingMode::Shared
    });
    let reduced = shared.filter_map(|driver| {
        let reports = world.nodes.values().filter_map(|node| node.rollout().zip(node.report()));
        let nics = reports.filter(|(rollout, _)| rollout.driver == driver.name).map(|(_, report)| report.devices.len());
        let nics = nics.max()?;
        let plugin = &driver.spec.device_plugin;
        let (wanted, most) = (plugin.shared_capacity, plugin.ids_of_each(nics));
        let message = format!(
            "devicePlugin.sharedCapacity {wanted} is too much for nodes with {nics} NICs, virtual functions included: a kubelet takes \
             a list of at most 4 MiB. The device plugin offers each of these NICs {most} times; set sharedCapacity to {most} or less"
        );
        (i64::from(wanted) > most).then(|| Announcement {
            driver: driver.name.clone(),
            node: None,
            warning: true,
            reason: "SharedCapacityReduced".to_owned(),
            message,
        })
    });
    reduced.collect()
}

/// A misspelt label does nothing: `blockedBy` says so where the node rests, and the event says so at once, whatever the node does.
fn unknown(world: &World) -> impl Iterator<Item = Announcement> {
    world.nodes.values().filter_map(|node| {
        Some(Announcement {
            driver: node.rollout()?.driver.clone(),
            node: Some(node.name.clone()),
            warning: true,
            reason: Reason::UnknownRequest.to_string(),
            message: cxi_rollout::unknown_request(node)?,
        })
    })
}

/// A NIC whose retry handler ended unasked is in an unknown state, which no step of a rollout would tell.
fn failed(world: &World) -> Vec<Announcement> {
    let mut all = Vec::new();
    for node in world.nodes.values() {
        let Some((rollout, report)) = node.rollout().zip(node.report()) else { continue };
        for nic in &report.devices {
            let Some(how) = &nic.retry_handler_failed else { continue };
            let message = format!(
                "the retry handler of {} ({}) failed: {how}. The state of the NIC is unknown: drain the node of its users and \
                 reboot it, or reload its driver",
                nic.name, nic.pci_address
            );
            all.push(Announcement {
                driver: rollout.driver.clone(),
                node: Some(node.name.clone()),
                warning: true,
                reason: "RetryHandlerFailed".to_owned(),
                message,
            });
        }
    }
    all
}

/// What of `now` was not so before; `told` is brought up to date.
pub fn news(now: Vec<Announcement>, told: &mut Vec<Announcement>) -> Vec<Announcement> {
    let known: HashSet<&Announcement> = told.iter().collect();
    let new = now.iter().filter(|notice| !known.contains(notice)).cloned().collect();
    *told = now;
    new
}

#[cfg(test)]
#[path = "notices_tests.rs"]
mod tests;
