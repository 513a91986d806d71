//! What the programs of a node find on a soft node, in the types of the real ones.

use std::{collections::BTreeSet, time::Duration};

use cxi_api::{
    NodeReport, Timestamp,
    node_report::{Link, LoadedModule, Nic, OpenFile},
};
use cxi_hardware::{Function, NicName, PciId, Scan};

use super::machine::Machine;

/// What the agent sees at `now`, without the fields that differ in each report.
pub(crate) fn observe(machine: &Machine, acknowledged: Option<Timestamp>, now: Duration) -> NodeReport {
    let link = if machine.links_up(now) { Link::Up } else { Link::Down };
    let modules = machine
        .driver
        .modules()
        .iter()
        .map(|module| LoadedModule {
            name: module.name.to_owned(),
            build_id: module.build_id(),
            refcount: i32::try_from(machine.driver.refcount(module.name, machine.open_files())).unwrap_or(i32::MAX),
            holders: machine.driver.users(module.name).into_iter().map(str::to_owned).collect(),
        })
        .collect();
    NodeReport {
        kernel: machine.kernel.clone(),
        boot_id: machine.boot_id.clone(),
        observed_at: Timestamp::UNIX_EPOCH,
        sequence: 0,
        acknowledged,
        modules,
        driver_version: machine.driver.bound().map(|build| build.version.clone()),
        open_files: open_files(machine),
        devices: (0..machine.bound_nics())
            .map(|nic| Nic {
                name: format!("cxi{nic}"),
                pci_address: Machine::pci_address(nic),
                link,
                virtual_function: false,
                retry_handler_failed: machine.faults.retry_handler.clone().filter(|_| nic == 0),
            })
            .collect(),
        kernel_messages: Vec::new(),
    }
}

/// What a scan of the node finds at `now`.
pub(crate) fn scan(machine: &Machine, now: Duration) -> Scan {
    let link = if machine.links_up(now) { cxi_hardware::Link::Up } else { cxi_hardware::Link::Down };
    let nics = (0..machine.bound_nics()).zip(0..).filter_map(|(nic, number)| {
        Some(cxi_hardware::Nic {
            name: NicName::new(number),
            address: Machine::pci_address(nic).parse().ok()?,
            id: Ok(PciId::CASSINI_1),
            function: Ok(Function::Physical),
            numa_node: Ok(Some(0)),
            link: Ok(link),
            netdev: Ok(None),
            device_node: Ok(true),
        })
    });
    Scan { nics: nics.collect(), unidentified: Vec::new() }
}

fn open_files(machine: &Machine) -> Vec<OpenFile> {
    let pods = machine.open.iter().flat_map(|(uid, process)| {
        let nodes: BTreeSet<String> = match machine.allocations.get(uid) {
            Some(allocations) => allocations.iter().flat_map(|allocation| &allocation.nodes).cloned().collect(),
            // A retry handler has them all.
            None => (0..machine.bound_nics()).map(|nic| format!("cxi{nic}")).collect(),
        };
        nodes.into_iter().map(|device| OpenFile {
            device,
            pid: process.pid,
            command: "app".into(),
            pod_uid: Some(uid.clone()),
        })
    });
    let host = machine.processes.iter().map(|process| OpenFile {
        device: "cxi0".into(),
        pid: process.pid,
        command: process.name.clone(),
        pod_uid: None,
    });
    pods.chain(host).collect()
}
