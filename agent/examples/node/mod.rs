//! A node with eight NICs that shows as many files per NIC as the driver does.

use std::{fs, os::unix::fs::symlink};

pub use cxi_hardware_lab::Tree;

/// NICs of the node.
pub const NICS: usize = 8;

/// Files in `telemetry/` of a Cassini 2.
pub const FILES: usize = 1922;

/// Processes of a busy node.
pub const PROCESSES: u32 = 2000;

/// Files that each of them has open.
pub const OPEN_FILES: u32 = 35;

/// Puts the processes there. None of them has a device open.
pub fn add_processes(tree: &Tree) {
    for pid in 1000..1000 + PROCESSES {
        tree.write(&format!("proc/{pid}/comm"), "worker\n");
        tree.write(&format!("proc/{pid}/cgroup"), "0::/system.slice/worker.service\n");
        let files = tree.path(&format!("proc/{pid}/fd"));
        fs::create_dir(&files).unwrap();
        for number in 0..OPEN_FILES {
            let target = if number < 3 { "/dev/null".to_owned() } else { format!("socket:[{pid}{number:02}]") };
            symlink(target, files.join(number.to_string())).unwrap();
        }
    }
}

/// The node; its files go with it.
pub fn node() -> Tree {
    let tree = Tree::new();
    for number in 0..NICS {
        let (name, address) = (format!("cxi{number}"), format!("0000:c{number}:00.0"));
        tree.add(&name, &address);
        let device = format!("sys/devices/{address}");
        let mut counters: Vec<_> = cxi_agent::exporter::default_counters().collect();
        counters.extend((counters.len()..FILES).map(|other| format!("lpe_other_{other}")));
        for (value, counter) in counters.into_iter().enumerate() {
            tree.write(&format!("{device}/telemetry/{counter}"), &format!("{}@1700000000.000000001\n", value << 40));
        }
        for (file, text) in [
            ("net/hsn0/address", "02:00:00:00:00:01\n"),
            ("net/hsn0/mtu", "9000\n"),
            ("aer_dev_correctable", "RxErr 0\nBadTLP 0\nTOTAL_ERR_COR 0\n"),
            ("aer_dev_nonfatal", "Undefined 0\nTOTAL_ERR_NONFATAL 0\n"),
            ("aer_dev_fatal", "Undefined 0\nTOTAL_ERR_FATAL 0\n"),
            ("properties/pcie_corr_err", "0\n"),
            ("properties/pcie_uncorr_err", "0\n"),
            ("properties/rgids_avail", "250\n"),
            ("port/0/link/counters/link_down", "0\n"),
            ("port/0/link/counters/link_up_fail", "0\n"),
        ] {
            tree.write(&format!("{device}/{file}"), text);
        }
        for slot in 0..10 {
            tree.write(&format!("{device}/link_restarts/time_{slot}"), "0\n");
        }
        for (statistic, _) in cxi_hardware::retry_handler::STATISTICS {
            tree.write(&format!("run/cxi/{name}/{statistic}"), "7\n");
        }
    }
    tree
}
