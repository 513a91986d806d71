//! A kernel under Secure Boot, which loads only modules that are signed with a key that it trusts.

use std::{fs, path::Path};

use cxi_control_plane::Progress;
use cxi_guest::{Kernel, Machine, Signer, Uefi, driver};

use crate::{
    lab::{self, A, KERNELS},
    node::{Node, STACK, proves},
};

/// The image of [`A`] with every module signed.
fn signed(kernel: &Kernel, signer: &Signer, place: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(lab::driver(kernel, A).root()).arg(place).status();
    assert!(copied.unwrap().success());
    for file in fs::read_dir(place.join("opt/lib/modules").join(&kernel.release).join("extra")).unwrap() {
        signer.sign(kernel, &file.unwrap().path()).unwrap();
    }
}

#[test]
fn only_modules_with_a_trusted_signature_are_loaded_under_secure_boot() {
    let kernel = lab::kernel(KERNELS[1]);
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    let uefi = Uefi::ensure(&Progress::stderr()).unwrap();
    let trusted = uefi.signer(work).unwrap();
    let tree = lab::tree(&kernel);
    for (name, signer) in [("trusted", &trusted), ("unknown", &Signer::unknown(work).unwrap())] {
        signed(&kernel, signer, &work.join(name));
        tree.directory(&work.join(name), &format!("images/{name}")).unwrap();
    }
    // The hardware is not what is tested here: its module is signed too.
    let nics = work.join("cxi-nics.ko");
    fs::copy(driver::nics(&kernel, &Progress::stderr()).unwrap(), &nics).unwrap();
    trusted.sign(&kernel, &nics).unwrap();
    tree.foreign_module(&nics).unwrap();
    let initrd = work.join("initrd");
    tree.write_initrd(&initrd).unwrap();

    let machine = Machine {
        name: "secure-boot".into(),
        nics: 2,
        command_line: "module.sig_enforce=1".into(),
        arguments: uefi.arguments(work).unwrap(),
        ..Machine::default()
    };
    let mut node = Node::boot_with(&machine, &kernel, &initrd);
    assert!(node.guest.succeed("dmesg | grep -i 'secure boot enabled'").is_ok(), "{}", node.dmesg());
    for image in [A, "unknown"] {
        assert_eq!(node.extract(&format!("/images/{image}")).status, 0);
        let output = node.load();
        assert!(output.status != 0 && output.text().contains("Key was rejected by service"), "{}", output.text());
        assert!(node.loaded().is_empty(), "{image}");
    }
    assert_eq!(node.extract("/images/trusted").status, 0);
    let output = node.load();
    assert_eq!(output.status, 0, "{}\n{}", output.text(), node.dmesg());
    assert_eq!(node.loaded(), STACK);
    // A signature is not part of what the build-id identifies: the manifest of the unsigned image still holds.
    let report = node.proof(A);
    assert!(proves(&report, &node.build_ids(A)), "{report:#?}");
    assert_eq!((report.driver_version.as_deref(), report.devices.len()), (Some(A), 2));
    node.remove();
}
