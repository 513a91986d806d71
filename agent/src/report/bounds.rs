//! How large a report may become. It is read by others: what it says must be what they can read, and not more than the API server
//! keeps (etcd refuses objects of more than 1.5 MB, and the operator hears nothing of a node whose report is refused). No node comes
//! near these bounds by itself.

use cxi_api::{NodeReport, device::CXIDeviceStatus};

/// Longest name of anything, in bytes: as for objects of the API.
const MAX_NAME_BYTES: usize = 253;

/// Longest text in words, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

/// Modules that are named as users of one.
const MAX_HOLDERS: usize = 64;

/// Open files that are named. Where there is one at all, there is one here: nothing is decided by how many there are.
const MAX_OPEN_FILES: usize = 2048;

/// NICs, virtual functions included.
const MAX_NICS: usize = cxi_api::node_report::MAX_NICS;

/// Lines of the kernel.
const MAX_KERNEL_MESSAGES: usize = 8;

/// Firmware versions of a NIC.
const MAX_FIRMWARE_VERSIONS: usize = 32;

/// The report within the bounds.
pub(super) fn report(mut report: NodeReport) -> NodeReport {
    cut(&mut report.kernel, MAX_NAME_BYTES);
    cut(&mut report.boot_id, MAX_NAME_BYTES);
    report.driver_version.iter_mut().for_each(|version| cut(version, MAX_NAME_BYTES));
    for module in &mut report.modules {
        cut(&mut module.name, MAX_NAME_BYTES);
        cut(&mut module.build_id, MAX_NAME_BYTES);
        module.holders.truncate(MAX_HOLDERS);
        module.holders.iter_mut().for_each(|holder| cut(holder, MAX_NAME_BYTES));
    }
    report.open_files.truncate(MAX_OPEN_FILES);
    for file in &mut report.open_files {
        cut(&mut file.command, MAX_NAME_BYTES);
        file.pod_uid.iter_mut().for_each(|uid| cut(uid, MAX_NAME_BYTES));
    }
    report.kernel_messages.truncate(MAX_KERNEL_MESSAGES);
    report.kernel_messages.iter_mut().for_each(|line| cut(line, MAX_NAME_BYTES));
    report.devices.truncate(MAX_NICS);
    for nic in &mut report.devices {
        nic.retry_handler_failed.iter_mut().for_each(|how| cut(how, MAX_TEXT_BYTES));
    }
    report
}

/// The status of a CXIDevice within the bounds.
pub(super) fn device(mut status: CXIDeviceStatus) -> CXIDeviceStatus {
    status.netdev.iter_mut().chain(&mut status.driver_version).for_each(|text| cut(text, MAX_NAME_BYTES));
    while status.firmware.len() > MAX_FIRMWARE_VERSIONS {
        status.firmware.pop_last();
    }
    status.firmware.values_mut().for_each(|version| cut(version, MAX_NAME_BYTES));
    let messages = status.retry_handler.iter_mut().filter_map(|handler| handler.message.as_mut());
    // The last lines of a handler that failed are some more.
    messages.for_each(|message| cut(message, 16 * MAX_TEXT_BYTES));
    status.health.message.iter_mut().for_each(|message| cut(message, 4 * MAX_TEXT_BYTES));
    status
}

/// The number of the next report. After the last that there is, it begins again: what counts is that it is another one.
pub(super) fn next(known: i64, own: i64) -> i64 {
    known.max(own).checked_add(1).unwrap_or(1)
}

/// Cuts between characters.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cxi_api::{
        Timestamp,
        device::{Health, HealthStatus, RetryHandler},
        node_report::{Link, LoadedModule, Nic, OpenFile},
    };
    use proptest::prelude::*;

    use super::*;

    /// What etcd takes, with room for the rest of the CXINode.
    const ETCD: usize = 1_000_000;

    fn extreme(text: &str, many: usize, number: i32) -> NodeReport {
        let module = LoadedModule {
            name: text.into(),
            build_id: text.into(),
            refcount: number,
            holders: vec![text.to_owned(); many],
        };
        let file = OpenFile { device: "cxi0".into(), pid: number, command: text.into(), pod_uid: Some(text.into()) };
        let nic = Nic {
            name: "cxi0".into(),
            pci_address: "0000:21:00.0".into(),
            link: Link::Unknown,
            virtual_function: true,
            retry_handler_failed: Some(text.into()),
        };
        NodeReport {
            kernel: text.into(),
            boot_id: text.into(),
            observed_at: Timestamp::MAX,
            sequence: i64::MAX,
            acknowledged: Some(Timestamp::UNIX_EPOCH),
            modules: vec![module; 8],
            driver_version: Some(text.into()),
            open_files: vec![file; many],
            devices: vec![nic; many],
            kernel_messages: vec![text.into(); many],
        }
    }

    fn comes_back(wanted: &NodeReport) {
        let written = serde_json::to_string(wanted).unwrap();
        let read: NodeReport = serde_json::from_str(&written).unwrap();
        assert_eq!(read, *wanted);
    }

    #[test]
    fn the_largest_report_is_kept_by_the_api_server() {
        comes_back(&report(extreme(&"é".repeat(1 << 19), 2, i32::MIN)));
        let largest = report(extreme(&"é".repeat(1000), 3000, i32::MAX));
        comes_back(&largest);
        // The kernel cuts commands at 15 bytes, and UIDs of pods have 36.
        let mut real = largest;
        for file in &mut real.open_files {
            file.command = "a command 15 by".into();
            file.pod_uid = Some("6f1c5e0a-3b0e-4d42-9a6f-0c2b7f1d9e11".into());
        }
        let size = serde_json::to_string(&real).unwrap().len();
        assert!(size < ETCD, "{size} bytes");
    }

    #[test]
    fn the_largest_device_is_kept_by_the_api_server() {
        let text = "é".repeat(1 << 20);
        let status = CXIDeviceStatus {
            node: "n".into(),
            device: "cxi0".into(),
            pci_address: "0000:21:00.0".into(),
            pci_id: None,
            cassini_generation: None,
            type_: None,
            total_vfs: Some(i32::MAX),
            numa_node: None,
            link_state: Link::Down,
            link_speed_gbps: None,
            nid: Some(i64::MAX),
            netdev: Some(text.clone()),
            mac: None,
            mtu: None,
            firmware: (0..1000).map(|n| (n.to_string(), text.clone())).collect::<BTreeMap<_, _>>(),
            driver_version: Some(text.clone()),
            retry_handler: Some(RetryHandler { message: Some(text.clone()), ..RetryHandler::default() }),
            services: None,
            health: Health { status: HealthStatus::Unknown, message: Some(text) },
        };
        let bounded = device(status);
        let written = serde_json::to_string(&bounded).unwrap();
        assert!(written.len() < ETCD / 10, "{} bytes", written.len());
        assert_eq!(serde_json::from_str::<CXIDeviceStatus>(&written).unwrap(), bounded);
    }

    #[test]
    fn numbers_of_reports_never_run_out() {
        assert_eq!([next(0, 0), next(7, 3), next(3, 7), next(i64::MAX, 3), next(-5, -9)], [1, 8, 8, 1, -4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_reported_can_be_read(text in "\\PC{0,500}|[\\x00-\\x1f]{0,300}", many in 0_usize..100, number: i32) {
            comes_back(&report(extreme(&text, many, number)));
        }
    }
}
