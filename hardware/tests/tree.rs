//! Scans of trees shaped like sysfs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cxi_hardware::{
    AttributeErrorKind, Boot, ErrorCounts, Firmware, Function, Link, NicDetails, PciId, Root, Scan, Telemetry,
    is_present, retry_handler::Attachment, scan,
};

/// A temporary directory with `sys` and `dev` in it.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(tree.path("dev")).unwrap();
        fs::create_dir_all(tree.path("sys/class/cxi")).unwrap();
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn root(&self) -> Root {
        Root::new(self.path("sys"), self.path("dev"))
    }

    fn scan(&self) -> Scan {
        scan(&self.root()).unwrap()
    }

    /// A Cassini 2 with its link up, laid out as in sysfs: the class entry is a link into the device's directory.
    fn add(&self, name: &str, address: &str) -> PathBuf {
        let device = self.path("sys/devices/pci0000:c0").join(address);
        fs::create_dir_all(device.join("cxi").join(name)).unwrap();
        fs::create_dir_all(device.join("properties")).unwrap();
        fs::create_dir_all(device.join("net/hsn0")).unwrap();
        symlink(format!("../../../{address}"), device.join("cxi").join(name).join("device")).unwrap();
        for (attribute, text) in
            [("vendor", "0x1590\n"), ("device", "0x0371\n"), ("numa_node", "1\n"), ("properties/link", "1\n")]
        {
            fs::write(device.join(attribute), text).unwrap();
        }
        symlink(format!("../../devices/pci0000:c0/{address}/cxi/{name}"), self.path("sys/class/cxi").join(name))
            .unwrap();
        // Any device will do. It may be there already: the node of a device that is bound again.
        let _ = symlink("/dev/full", self.path("dev").join(name));
        device
    }

    fn remove(&self, name: &str, device: &Path) {
        let _ = fs::remove_file(self.path("sys/class/cxi").join(name));
        let _ = fs::remove_dir_all(device);
    }
}

#[test]
fn reads_every_attribute() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    let scan = tree.scan();
    assert!(scan.unidentified.is_empty());
    let [nic] = &scan.nics[..] else { panic!("{scan:?}") };
    assert_eq!(nic.name.to_string(), "cxi0");
    assert_eq!(nic.address.to_string(), "0000:c1:00.0");
    assert_eq!(nic.id, Ok(PciId::CASSINI_2));
    assert_eq!(nic.function, Ok(Function::Physical));
    assert_eq!(nic.numa_node, Ok(Some(1)));
    assert_eq!(nic.link, Ok(Link::Up));
    assert_eq!(nic.netdev, Ok(Some("hsn0".into())));
    assert_eq!(nic.device_node, Ok(true));
}

#[test]
fn no_driver_is_no_nics_but_an_unreadable_class_is_an_error() {
    let tree = Tree::new();
    fs::remove_dir(tree.path("sys/class/cxi")).unwrap();
    assert_eq!(tree.scan(), Scan::default());
    fs::write(tree.path("sys/class/cxi"), "").unwrap();
    let error = scan(&tree.root()).unwrap_err();
    assert!(error.to_string().starts_with("list "), "{error}");
}

#[test]
fn a_broken_attribute_spoils_only_itself() {
    let tree = Tree::new();
    let device = tree.add("cxi0", "0000:c1:00.0");
    fs::write(device.join("properties/link"), b"\xff\x00").unwrap();
    fs::remove_file(device.join("numa_node")).unwrap();
    fs::write(device.join("vendor"), "").unwrap();
    fs::remove_dir_all(device.join("net")).unwrap();
    fs::remove_file(tree.path("dev/cxi0")).unwrap();
    assert_eq!(tree.scan().nics[0].device_node, Ok(false));
    fs::create_dir(tree.path("dev/cxi0")).unwrap();
    let scan = tree.scan();
    let nic = &scan.nics[0];
    assert_eq!(nic.link.as_ref().unwrap_err().kind, AttributeErrorKind::NotText);
    assert_eq!(nic.numa_node.as_ref().unwrap_err().kind, AttributeErrorKind::Missing);
    assert_eq!(nic.id.as_ref().unwrap_err().kind, AttributeErrorKind::Empty);
    // Without an id only region 0 could tell, and there is none.
    assert_eq!(nic.function.as_ref().unwrap_err().kind, AttributeErrorKind::Missing);
    assert_eq!(nic.netdev, Ok(None));
    assert_eq!(nic.device_node, Ok(false));
}

#[test]
fn functions_that_share_an_id_are_told_apart() {
    let tree = Tree::new();
    let physical = tree.add("cxi0", "0000:c1:00.0");
    let by_link = tree.add("cxi1", "0000:c1:00.1");
    let by_size = tree.add("cxi2", "0000:c1:00.2");
    for device in [&physical, &by_link, &by_size] {
        fs::write(device.join("vendor"), "0x17db\n").unwrap();
        fs::write(device.join("device"), "0x0501\n").unwrap();
    }
    fs::write(physical.join("resource"), "0x1000000000 0x107fffffff 0x14220c\n").unwrap();
    symlink("../0000:c1:00.0", by_link.join("physfn")).unwrap();
    fs::write(by_size.join("resource"), "0x1000000000 0x1007ffffff 0x14220c\n").unwrap();
    let functions: Vec<_> = tree.scan().nics.into_iter().map(|nic| nic.function.unwrap()).collect();
    assert_eq!(functions, [Function::Physical, Function::Virtual, Function::Virtual]);
}

#[test]
fn a_virtual_function_has_the_link_of_its_physical_one() {
    let tree = Tree::new();
    let physical = tree.add("cxi0", "0000:c1:00.0");
    let on_the_host = tree.add("cxi1", "0000:c1:00.1");
    let in_a_machine = tree.add("cxi2", "0000:00:05.0");
    symlink("../0000:c1:00.0", on_the_host.join("physfn")).unwrap();
    fs::write(in_a_machine.join("device"), "0x0372\n").unwrap();
    // What the driver says of every virtual function.
    for device in [&on_the_host, &in_a_machine] {
        fs::write(device.join("properties/link"), "0\n").unwrap();
    }
    for (text, expected) in [("1\n", Link::Up), ("0\n", Link::Down)] {
        fs::write(physical.join("properties/link"), text).unwrap();
        let nics = tree.scan().nics;
        assert_eq!((&nics[0].link, &nics[1].link), (&Ok(expected), &Ok(expected)));
        assert_eq!(nics[2].function, Ok(Function::Virtual));
        assert_eq!(nics[2].link.as_ref().unwrap_err().kind, AttributeErrorKind::Missing, "neither up nor down");
    }
    // As while the driver lets the physical one go.
    fs::remove_file(physical.join("properties/link")).unwrap();
    assert_eq!(tree.scan().nics[1].link.as_ref().unwrap_err().kind, AttributeErrorKind::Missing);
}

#[test]
fn entries_without_an_identity_are_named_and_do_not_hide_others() {
    let tree = Tree::new();
    tree.add("cxi10", "0000:c1:00.0");
    tree.add("cxi9", "0000:21:00.0");
    let device = tree.add("cxi3", "0000:31:00.0");
    fs::remove_file(device.join("cxi/cxi3/device")).unwrap();
    let device = tree.add("cxi4", "0000:41:00.0");
    fs::remove_file(device.join("cxi/cxi4/device")).unwrap();
    symlink("../../../platform", device.join("cxi/cxi4/device")).unwrap();
    tree.add("other", "0000:51:00.0");
    let scan = tree.scan();
    let names: Vec<_> = scan.nics.iter().map(|nic| nic.name.to_string()).collect();
    assert_eq!(names, ["cxi9", "cxi10"]);
    let unidentified: Vec<_> = scan.unidentified.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(unidentified, ["cxi3", "cxi4", "other"]);
    assert_eq!(scan.unidentified[0].reason.kind, AttributeErrorKind::Missing);
}

#[test]
fn a_dangling_entry_is_gone() {
    let tree = Tree::new();
    let device = tree.add("cxi0", "0000:c1:00.0");
    fs::remove_dir_all(device).unwrap();
    assert_eq!(tree.scan(), Scan::default());
}

#[test]
fn devices_that_come_and_go_while_being_read_do_no_harm() {
    let tree = Arc::new(Tree::new());
    tree.add("cxi1", "0000:21:00.0");
    let stop = Arc::new(AtomicBool::new(false));
    let flapping = std::thread::spawn({
        let (tree, stop) = (tree.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let device = tree.add("cxi0", "0000:c1:00.0");
                tree.remove("cxi0", &device);
            }
        }
    });
    for _ in 0..2_000 {
        let scan = tree.scan();
        assert!(scan.nics.iter().any(|nic| nic.name.to_string() == "cxi1"), "{scan:?}");
        for nic in scan.nics.iter().filter(|nic| nic.name.to_string() == "cxi0") {
            assert_eq!(nic.address.to_string(), "0000:c1:00.0");
        }
    }
    stop.store(true, Ordering::Relaxed);
    flapping.join().unwrap();
}

#[test]
fn details_of_both_generations() {
    let tree = Tree::new();
    let second = tree.add("cxi0", "0000:c1:00.0");
    let first = tree.add("cxi1", "0000:21:00.0");
    let write = |device: &Path, files: &[(&str, &str)]| {
        for (file, text) in files {
            let path = device.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    };
    let common = [
        ("properties/nid", "0x1a3\n"),
        ("properties/pct_eq", "12\n"),
        ("properties/speed", "200000\n"),
        ("sriov_totalvfs", "64\n"),
        ("net/hsn0/address", "02:00:00:00:01:a3\n"),
        ("net/hsn0/mtu", "9000\n"),
        ("uc/app_version", "1.5.49\n"),
        ("uc/oprom_version", "\n"),
        ("uc/csr1_version", "1\x002"),
    ];
    write(&second, &common);
    write(&second, &[("port/0/link/speed", "ck400G\n")]);
    write(&first, &[("vendor", "0x17db\n"), ("device", "0x0501\n"), ("port/speed", "NA")]);
    write(&first, &[("properties/nic_addr", "0x7\n"), ("net/hsn0/speed", "200000\n")]);
    let nics = tree.scan().nics;

    let details = NicDetails::read(&tree.root(), &nics[0]).unwrap();
    assert_eq!((details.link_speed, details.nid), (Ok(Some(400)), Ok(Some(0x1a3))));
    assert_eq!((details.retry_handler, details.total_vfs, details.mtu), (Ok(true), Ok(Some(64)), Ok(Some(9000))));
    assert_eq!(details.mac.unwrap().unwrap().to_string(), "02:00:00:00:01:a3");
    let firmware = Firmware::read(&tree.root(), &nics[0]).unwrap();
    assert_eq!(firmware.versions, [("app_version", "1.5.49".to_owned())]);
    assert!(firmware.errors[0].path.ends_with("uc/csr1_version"));

    let details = NicDetails::read(&tree.root(), &nics[1]).unwrap();
    assert_eq!((details.link_speed, details.nid), (Ok(None), Ok(Some(7))), "the port knows better than the interface");
    assert_eq!((details.total_vfs, details.mac, details.mtu), (Ok(None), Ok(None), Ok(None)));
    assert_eq!(details.retry_handler.unwrap_err().kind, AttributeErrorKind::Missing);
    fs::remove_file(first.join("port/speed")).unwrap();
    assert_eq!(NicDetails::read(&tree.root(), &nics[1]).unwrap().link_speed, Ok(Some(200)));

    tree.remove("cxi0", &second);
    assert_eq!(NicDetails::read(&tree.root(), &nics[0]), None);
    assert_eq!(Firmware::read(&tree.root(), &nics[0]), None);
}

#[test]
fn kernel_and_boot() {
    let tree = Tree::new();
    let root = tree.root().with_proc(tree.path("proc"));
    assert!(Boot::read(&root).is_err());
    fs::create_dir_all(tree.path("proc/sys/kernel/random")).unwrap();
    fs::write(tree.path("proc/sys/kernel/osrelease"), "6.8.0-31-generic\n").unwrap();
    fs::write(tree.path("proc/sys/kernel/random/boot_id"), "0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c\n").unwrap();
    let boot = Boot::read(&root).unwrap();
    assert_eq!((boot.kernel.as_str(), &boot.boot_id[..8]), ("6.8.0-31-generic", "0f6cb5d2"));
    fs::write(tree.path("proc/sys/kernel/random/boot_id"), "0f6cb5d2").unwrap();
    assert!(Boot::read(&root).is_err(), "half-written");
}

#[test]
fn a_device_that_is_bound_again_is_another_instance() {
    let tree = Tree::new();
    let device = tree.add("cxi0", "0000:c1:00.0");
    let read = || Attachment::read(&tree.root(), &tree.scan().nics[0]).unwrap();
    assert!(read().attached.is_err());
    fs::write(device.join("properties/pct_eq"), "12\n").unwrap();
    let before = read();
    assert_eq!(before.attached, Ok(true));
    assert_eq!(read(), before);
    let nic = tree.scan().nics.remove(0);
    // Kept aside: a directory of sysfs is never given the number of an earlier one.
    fs::rename(&device, tree.path("aside")).unwrap();
    tree.remove("cxi0", &device);
    assert_eq!(Attachment::read(&tree.root(), &nic), None);
    tree.add("cxi0", "0000:c1:00.0");
    assert_ne!(read().instance, before.instance);
}

#[test]
fn telemetry_is_read_by_name() {
    let tree = Tree::new();
    let device = tree.add("cxi0", "0000:c1:00.0");
    let nic = &tree.scan().nics[0];
    assert!(Telemetry::find(&tree.root(), nic).unwrap().is_none(), "a virtual function has none");
    fs::create_dir(device.join("telemetry")).unwrap();
    for (name, text) in
        [("pct_spt_timeouts", "7@1700000000.000000001\n"), ("hni_rx_jabber", "seven\n"), ("ALL-in-binary", "")]
    {
        fs::write(device.join("telemetry").join(name), text).unwrap();
    }
    let telemetry = Telemetry::find(&tree.root(), nic).unwrap().unwrap();
    let mut names = telemetry.names().unwrap();
    names.sort();
    assert_eq!(names, ["hni_rx_jabber", "pct_spt_timeouts"]);
    assert_eq!(telemetry.read("pct_spt_timeouts"), Ok(7));
    assert!(matches!(telemetry.read("hni_rx_jabber").unwrap_err().kind, AttributeErrorKind::Invalid { .. }));
    assert_eq!(telemetry.read("hni_rx_fragment").unwrap_err().kind, AttributeErrorKind::Missing);
    tree.remove("cxi0", &device);
    assert_eq!(telemetry.read("pct_spt_timeouts").unwrap_err().kind, AttributeErrorKind::Missing);
    assert!(Telemetry::find(&tree.root(), nic).unwrap().is_none());
    assert!(!is_present(&tree.root(), nic));
}

#[test]
fn a_device_that_came_back_has_another_telemetry_directory() {
    let tree = Tree::new();
    let device = tree.add("cxi0", "0000:c1:00.0");
    fs::create_dir(device.join("telemetry")).unwrap();
    let nic = tree.scan().nics.remove(0);
    let find = || Telemetry::find(&tree.root(), &nic).unwrap().unwrap().directory();
    let first = find();
    assert_eq!(find(), first);
    fs::create_dir(device.join("other")).unwrap();
    fs::remove_dir(device.join("telemetry")).unwrap();
    fs::rename(device.join("other"), device.join("telemetry")).unwrap();
    assert_ne!(find(), first);
}

#[test]
fn errors_are_counted_where_they_are() {
    let tree = Tree::new();
    let device = tree.add("cxi0", "0000:c1:00.0");
    let nic = &tree.scan().nics[0];
    let none = ErrorCounts::read(&tree.root(), nic).unwrap();
    assert_eq!((&none.aer_fatal, &none.link_restarts, &none.link_down), (&Ok(None), &Ok(None), &Ok(None)));
    for directory in ["link_restarts", "port/0/link/counters"] {
        fs::create_dir_all(device.join(directory)).unwrap();
    }
    for (name, text) in [
        ("aer_dev_correctable", "RxErr 2\nBadTLP 1\nTOTAL_ERR_COR 3\n"),
        ("aer_dev_fatal", "\n"),
        ("properties/pcie_corr_err", "5\n"),
        ("properties/rgids_avail", "250\n"),
        ("link_restarts/time_0", "1700000000\n"),
        ("link_restarts/time_1", "0\n"),
        ("port/0/link/counters/link_down", "4\n"),
    ] {
        fs::write(device.join(name), text).unwrap();
    }
    let counts = ErrorCounts::read(&tree.root(), nic).unwrap();
    assert_eq!(counts.aer_correctable, Ok(Some(3)));
    assert_eq!(counts.aer_nonfatal, Ok(None));
    assert_eq!(counts.aer_fatal.unwrap_err().kind, AttributeErrorKind::Empty);
    assert_eq!(counts.pcie_corrected, Ok(Some(5)));
    assert_eq!(counts.resource_groups_available, Ok(Some(250)));
    assert_eq!(counts.link_restarts, Ok(Some(vec![1_700_000_000])));
    assert_eq!((counts.link_down, counts.link_up_failed), (Ok(Some(4)), Ok(None)));
    tree.remove("cxi0", &device);
    assert_eq!(ErrorCounts::read(&tree.root(), nic), None);
}
