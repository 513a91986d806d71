//! Turns a NIC into its CXIDevice. Pure.

use std::fmt::Display;

use cxi_api::device::{CXIDeviceStatus, Function, Health, HealthStatus};
use cxi_hardware::{
    health::{self, RetryHandler, judge},
    retry_handler::Expectation,
};

use crate::report::{
    bounds,
    content::{integer, link},
    nic::SeenNic,
    services,
};

/// The status of `seen`, a NIC of `node` that runs `driver_version` and has the retry handler that is `expected`.
pub(super) fn status(
    node: &str,
    seen: &SeenNic,
    driver_version: Option<&str>,
    expected: Expectation,
) -> CXIDeviceStatus {
    let SeenNic { nic, details, firmware, services, retry_handler } = seen;
    let id = nic.id.as_ref().ok();
    bounds::device(CXIDeviceStatus {
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
        nid: known(&details.nid).map(i64::from),
        netdev: known(&nic.netdev),
        mac: known(&details.mac).map(|mac| mac.to_string()),
        mtu: known(&details.mtu).map(integer),
        firmware: firmware.versions.iter().map(|(name, version)| ((*name).to_owned(), version.clone())).collect(),
        driver_version: driver_version.map(str::to_owned),
        retry_handler: details.retry_handler.as_ref().ok().map(|attached| retry_handler.status(*attached)),
        services: services.as_ref().ok().and_then(Option::as_ref).map(services::status),
        health: health(seen, expected),
    })
}

fn known<T: Clone, E>(attribute: &Result<Option<T>, E>) -> Option<T> {
    attribute.as_ref().ok().cloned().flatten()
}

/// Pods can use it, and what could not be read is said all the same.
fn health(seen: &SeenNic, expected: Expectation) -> Health {
    let record = seen.retry_handler.record.as_ref();
    let retry_handler = RetryHandler {
        attached: &seen.details.retry_handler,
        record,
        expected: expected.without_memory(),
        had_one: false,
    };
    let (status, message) = match judge(&seen.nic, Some(retry_handler)) {
        health::Health::Unusable(defect) => (HealthStatus::Unhealthy, Some(defect.to_string())),
        health::Health::Unknown(error) => (HealthStatus::Unknown, Some(error.to_string())),
        health::Health::Usable => match list(seen.problems()) {
            None => (HealthStatus::Healthy, None),
            problems => (HealthStatus::Degraded, problems),
        },
    };
    Health { status, message }
}

fn list(problems: impl Iterator<Item = impl Display>) -> Option<String> {
    let problems: Vec<_> = problems.map(|problem| problem.to_string()).collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}
