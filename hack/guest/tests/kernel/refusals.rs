//! Drivers that must not or cannot be loaded or unloaded: what is said, and what is left behind.

use std::{fs, path::Path};

use cxi_guest::{Flavour, Guest, Kernel, Line, Machine};

use crate::{
    lab::{self, A, B, KERNELS, Slot},
    node::{Node, STACK, proves},
};

/// The image of `kernel` with the modules of `other` in it: somebody has built for the wrong kernel, or tagged wrongly.
fn mislabelled(kernel: &Kernel, other: &Kernel, place: &Path) {
    let right = lab::driver(kernel, A);
    let wrong = lab::driver(other, A);
    let to = place.join("opt/lib/modules").join(&kernel.release);
    fs::create_dir_all(to.join("extra")).unwrap();
    for list in ["modules.dep", "modules.dep.bin", "modules.order", "modules.builtin", "modules.alias.bin"] {
        fs::copy(right.modules(kernel).join(list), to.join(list)).unwrap();
    }
    std::os::unix::fs::symlink(Path::new("/lib/modules").join(&kernel.release), to.join("host")).unwrap();
    for file in fs::read_dir(wrong.modules(other).join("extra")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join("extra").join(file.file_name())).unwrap();
    }
    fs::create_dir_all(place.join("opt/lib/firmware/cxi")).unwrap();
    fs::write(place.join("opt/lib/firmware/cxi/any"), "").unwrap();
}

#[test]
fn modules_of_another_kernel_or_flavour_are_refused() {
    let kernel = lab::kernel(KERNELS[0]);
    let others = [lab::kernel(KERNELS[1]), lab::kernel((Line::V6_1, Flavour::Cloud))];
    let tree = lab::tree(&kernel);
    let work = tempfile::tempdir().unwrap();
    for other in &others {
        let place = work.path().join(&other.release);
        mislabelled(&kernel, other, &place);
        tree.directory(&place, &format!("wrong/{}", other.release)).unwrap();
        // An image that is what it says, for another kernel.
        tree.directory(lab::driver(other, A).root(), &format!("other/{}", other.release)).unwrap();
    }
    let initrd = work.path().join("initrd");
    tree.write_initrd(&initrd).unwrap();
    let _slot = Slot::take();
    let mut guest = Guest::boot(&Machine { name: "refusals".into(), ..Machine::default() }, &kernel, &initrd).unwrap();
    for other in &others {
        let release = &other.release;
        let copy = guest.run(&format!("cp -R /other/{release}/opt/lib/modules/$(uname -r) /tmp")).unwrap();
        assert_ne!(copy.status, 0, "KMM's init container finds no directory for this kernel");
        let output = guest.run(&format!("/sbin/modprobe -d /other/{release}/opt -a cxi-user cxi-eth")).unwrap();
        assert!(output.status != 0 && output.text().contains("not found in directory"), "{}", output.text());

        let output = guest.run(&format!("/sbin/modprobe -d /wrong/{release}/opt -a cxi-user cxi-eth")).unwrap();
        assert_ne!(output.status, 0, "modules of {release} were loaded into {}", kernel.release);
        let dmesg = guest.succeed("dmesg | grep cxi_ | tail -3; dmesg -c >/dev/null").unwrap();
        let said = ["version magic", "disagrees about version of symbol"].iter().any(|words| dmesg.contains(words));
        assert!(said, "{release}: {dmesg}\n{}", output.text());
        assert_eq!(guest.succeed("grep -c '^cxi_[^n]' /proc/modules || true").unwrap(), "0");
    }
}

#[test]
fn a_release_does_not_go_on_top_of_another_and_leftovers_are_removed() {
    let kernel = lab::kernel(KERNELS[1]);
    let mut node = Node::boot(&Machine { name: "leftovers".into(), ..Machine::default() }, &kernel);
    // What `modprobe -r` leaves when it is only told the modules at the top.
    node.install(A);
    node.guest.succeed("/sbin/modprobe -d /tmp/opt -r cxi-user cxi-eth").unwrap();
    assert_eq!(node.loaded(), ["cxi_sbl", "cxi_sl"], "what modprobe forgets");
    assert_eq!(node.extract(&format!("/images/{B}")).status, 0);
    let output = node.load();
    assert_ne!(output.status, 0);
    assert!(node.dmesg().contains("disagrees about version of symbol sbl_base_link_start"), "{}", node.dmesg());
    let report = node.proof(B);
    assert!(!proves(&report, &node.build_ids(B)) && report.driver_version.is_none(), "{report:#?}");

    // The agent takes out what is left, as the operator has it done after a failed load.
    let modules = "--module cxi-eth --module cxi-user --module cxi-ss1 --module cxi-sl --module cxi-sbl";
    let said = node.guest.succeed(&format!("cxi-agent remove-modules {modules}")).unwrap();
    assert!(said.contains("cxi_sbl: removed") && said.contains("cxi_user: not loaded"), "{said}");
    let output = node.load();
    assert_eq!(output.status, 0, "{}", output.text());
    assert!(proves(&node.proof(B), &node.build_ids(B)));

    // It removes nothing while a device is open, and says whose.
    let pid = node.guest.start("exec 3</dev/cxi0; exec sleep 1000").unwrap();
    node.report_when("names the holder", |report| !report.open_files.is_empty());
    let refused = node.guest.run(&format!("cxi-agent remove-modules {modules}")).unwrap();
    assert_ne!(refused.status, 0);
    assert!(refused.text().contains("(sleep) has /dev/cxi0 open"), "{}", refused.text());
    assert_eq!(node.loaded(), STACK, "not one of them");
    node.guest.succeed(&format!("kill {pid} && while [ -d /proc/{pid} ]; do sleep 0.1; done")).unwrap();

    // Somebody in the kernel holds the driver whom no list of open files has: no proof is given that nobody does.
    node.guest.succeed("echo 1 >/sys/module/cxi_user/parameters/hold").unwrap();
    assert_ne!(node.unload().status, 0);
    let report = node.report_when("sees the reference", |report| {
        report.open_files.is_empty()
            && report.modules.iter().any(|module| module.name == "cxi_user" && module.refcount == 1)
    });
    assert_eq!(report.acknowledged, None, "the list of open files is no proof then");
    let refused = node.guest.run(&format!("cxi-agent remove-modules {modules}")).unwrap();
    assert!(refused.text().contains("cxi_user is in use by something other than a module"), "{}", refused.text());
    node.guest.succeed("echo 0 >/sys/module/cxi_user/parameters/hold").unwrap();

    // An unload that takes its time is waited for.
    node.guest.succeed("echo 3000 >/sys/module/cxi_ss1/parameters/unload_delay_ms").unwrap();
    let took = node.guest.succeed("cut -d. -f1 /proc/uptime >/tmp/before; cat /tmp/before").unwrap();
    node.remove();
    let now = node.guest.succeed("cut -d. -f1 /proc/uptime").unwrap();
    assert!(now.parse::<u64>().unwrap() >= took.parse::<u64>().unwrap() + 3);
    assert!(node.loaded().is_empty() && !node.was_forced());
}

#[test]
fn a_driver_that_does_not_load_is_reported_and_one_that_binds_nothing_is_seen() {
    let kernel = lab::kernel(KERNELS[1]);
    // Parameters on the kernel's command line reach modules however they are loaded.
    let machine = Machine { name: "faults".into(), command_line: "cxi_ss1.fail_load=5".into(), ..Machine::default() };
    let mut node = Node::boot(&machine, &kernel);
    assert_eq!(node.extract(&format!("/images/{A}")).status, 0);
    let output = node.load();
    assert!(output.status != 0 && output.text().contains("Input/output error"), "{}", output.text());
    let report = node.proof(A);
    let loaded: Vec<_> = report.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(loaded, ["cxi_sbl", "cxi_sl"], "those came in before the failure");
    assert_eq!(report.driver_version, None);
    node.guest.succeed("/sbin/modprobe -d /tmp/opt -r cxi-sl cxi-sbl").unwrap();

    // modprobe ends well and no NIC is bound: only the proof tells.
    node.guest.succeed("/sbin/modprobe -d /images/13.0.0/opt cxi-ss1 fail_load=0 fail_probe=15").unwrap();
    assert_eq!(node.load().status, 0);
    let report = node.proof(A);
    assert!(proves(&report, &node.build_ids(A)) && report.devices.is_empty(), "{report:#?}");
    node.remove();
}

#[test]
fn the_other_generation_is_read_as_well() {
    let kernel = lab::kernel(KERNELS[1]);
    let mut node = Node::boot(&Machine { name: "generation-2".into(), nics: 0, ..Machine::default() }, &kernel);
    node.guest.succeed("/sbin/modprobe cxi-nics vendor=0x1590 device=0x0371 count=1").unwrap();
    node.install(A);
    let report = node.report_when("has the NIC", |report| report.devices.len() == 1);
    assert_eq!(report.devices[0].link, cxi_api::node_report::Link::Up);
}
