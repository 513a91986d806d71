//! A driver that the host loads at boot, before the kubelet: the files of `driver-images/boot`, as far as a guest without
//! systemd can tell.

use std::{fs, path::Path};

use cxi_guest::Machine;

use crate::{
    lab::{self, A, KERNELS},
    node::{Node, STACK, proves},
};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../driver-images/boot").join(name)).unwrap()
}

/// The commands that a unit runs.
fn commands(unit: &str) -> Vec<&str> {
    unit.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect()
}

/// What `modules-load.d` names, as systemd reads it.
fn modules(list: &str) -> Vec<&str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])).collect()
}

#[test]
fn a_host_that_brings_the_driver_has_it_before_anything_else_runs() {
    let kernel = lab::kernel(KERNELS[1]);
    let (unit, list) = (file("cxi-driver.service"), file("modules-load.d/cxi.conf"));
    let names = modules(&list);
    assert_eq!(commands(&unit), [format!("/sbin/modprobe -a {}", names.join(" "))], "both files load the same");
    assert!(unit.contains("Before=kubelet.service"));

    // The driver lies where DKMS puts it on a host.
    let tree = lab::tree(&kernel);
    let extra = lab::driver(&kernel, A).modules(&kernel).join("extra");
    tree.directory(&extra, &format!("lib/modules/{}/updates/dkms", kernel.release)).unwrap();
    let script: Vec<_> = names.iter().map(|name| format!("/sbin/modprobe {name} || exit 1")).collect();
    tree.script("etc/boot.d/modules-load", &format!("#!/bin/sh\n{}\n", script.join("\n"))).unwrap();
    let work = tempfile::tempdir().unwrap();
    let initrd = work.path().join("initrd");
    tree.write_initrd(&initrd).unwrap();
    let mut node = Node::boot_with(&Machine { name: "boot".into(), nics: 2, ..Machine::default() }, &kernel, &initrd);

    assert_eq!(node.loaded(), STACK, "{}", node.guest.succeed("cat /run/boot.log").unwrap());
    let report = node.proof(A);
    assert!(proves(&report, &node.build_ids(A)), "{report:#?}");
    assert_eq!(report.devices.len(), 2);
    // The unit after that, and what the operator does on nodes with `source.type: preinstalled`, change nothing.
    for command in commands(&unit) {
        node.guest.succeed(command).unwrap();
    }
    node.guest.succeed("cxi-agent load-modules --root / --module cxi-user --module cxi-eth").unwrap();
    assert_eq!(node.proof(A).modules, report.modules);
    // On a host that has not loaded it the operator's way loads it.
    node.guest.succeed("/sbin/modprobe -r cxi-user cxi-eth cxi-ss1 cxi-sl cxi-sbl").unwrap();
    node.guest.succeed("cxi-agent load-modules --root / --module cxi-user --module cxi-eth").unwrap();
    assert!(proves(&node.proof(A), &node.build_ids(A)));
}
