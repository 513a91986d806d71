//! Turns a NIC into its CXIDevice. Pure.

use std::fmt::Display;

use cxi_api::device::{CXIDeviceStatus, Function, Health, HealthStatus};
use cxi_hardware::Link;

use crate::report::content::{integer, link};
use crate::report::seen::SeenNic;
use crate::report::services;

/// The status of `seen`, a NIC of `node` that runs `driver_version`.
pub(super) fn status(node: &str, seen: &SeenNic, driver_version: Option<&str>) -> CXIDeviceStatus {
    let SeenNic { nic, details, firmware, services, retry_handler } = seen;
    let id = nic.id.as_ref().ok();
    CXIDeviceStatus {
        node: node.to_owned(),
        device: nic.name.to_string(),
        pci_address: nic.address.to_string(),
        pci_id: id.map(ToString::to_string),
        cassini_generation: id.and_then(|id| id.cassini_generation()).map(i32::from),
        type_: nic.function.as_ref().ok().map(|function| match function {
            cxi_hardware::Function::Physical => Function::Pf,
            cxi_hardware::Function::Virtual => Function::Vf,
        }),
        total_vfs: known(&details.total_vfs).map(integer),
        numa_node: known(&nic.numa_node).map(integer),
        link_state: link(seen),
        link_speed_gbps: known(&details.link_speed).map(integer),
        nid: details.nid.as_ref().ok().copied().map(i64::from),
        netdev: known(&nic.netdev),
        mac: known(&details.mac).map(|mac| mac.to_string()),
        mtu: known(&details.mtu).map(integer),
        firmware: firmware.versions.iter().map(|(name, version)| ((*name).to_owned(), version.clone())).collect(),
        driver_version: driver_version.map(str::to_owned),
        retry_handler: details.retry_handler.as_ref().ok().map(|attached| retry_handler.status(*attached)),
        services: services.as_ref().ok().and_then(Option::as_ref).map(services::status),
        health: health(seen),
    }
}

fn known<T: Clone, E>(attribute: &Result<Option<T>, E>) -> Option<T> {
    attribute.as_ref().ok().cloned().flatten()
}

/// The device node first: without it there is nothing to hand out, whatever the link says. The device plugin judges by
/// the same two. Then the retry handler, where the node has a supervisor for it.
fn health(seen: &SeenNic) -> Health {
    let attached = seen.details.retry_handler.as_ref().ok().copied();
    let obstacle = seen.retry_handler.record.as_ref().and_then(|record| record.obstacle(attached));
    let (status, message) = match (&seen.nic.device_node, &seen.nic.link) {
        (Ok(false), _) => (HealthStatus::Unhealthy, Some("device node is missing".to_owned())),
        (Ok(true), Ok(Link::Down)) => (HealthStatus::Unhealthy, Some("link is down".to_owned())),
        (Err(error), _) | (_, Err(error)) => (HealthStatus::Unknown, Some(error.to_string())),
        (Ok(true), Ok(Link::Up)) => match (obstacle, list(seen.problems())) {
            (Some(obstacle), _) => (HealthStatus::Unhealthy, Some(obstacle)),
            (None, None) => (HealthStatus::Healthy, None),
            (None, problems) => (HealthStatus::Degraded, problems),
        },
    };
    Health { status, message }
}

fn list(problems: impl Iterator<Item = impl Display>) -> Option<String> {
    let problems: Vec<_> = problems.map(|problem| problem.to_string()).collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}
