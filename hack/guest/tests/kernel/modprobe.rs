//! A firmware file that comes with the image: `source.modprobe.firmwarePath`.

use cxi_guest::{Machine, driver::FIRMWARE};

use crate::{
    lab::{self, A, KERNELS},
    node::{FIRMWARE_HOST_PATH, Node, proves},
};

#[test]
fn a_driver_gets_its_firmware_from_the_image() {
    let kernel = lab::kernel(KERNELS[1]);
    let command_line = format!("cxi_sl.firmware={FIRMWARE}");
    let mut node = Node::boot(&Machine { name: "firmware".into(), command_line, ..Machine::default() }, &kernel);
    assert_eq!(node.extract(&format!("/images/{A}")).status, 0);
    // Without firmwarePath nobody brings the file.
    let output = node.load();
    assert_ne!(output.status, 0, "{}", output.text());
    assert!(node.dmesg().contains(&format!("firmware {FIRMWARE} cannot be had")), "{}", node.dmesg());
    assert!(!node.loaded().contains(&"cxi_sl".to_owned()));
    node.guest.succeed("cxi-agent remove-modules --module cxi-sbl --module cxi-sl").unwrap();

    let output = node.worker("load", true);
    assert_eq!(output.status, 0, "{}\n{}", output.text(), node.dmesg());
    assert!(node.dmesg().contains(&format!("cxi_sl: firmware {FIRMWARE} has ")), "{}", node.dmesg());
    assert!(proves(&node.proof(A), &node.build_ids(A)));
    let file = format!("{FIRMWARE_HOST_PATH}/{FIRMWARE}");
    assert_eq!(node.guest.succeed(&format!("cat {file}")).unwrap(), format!("firmware of {A}"));

    // The worker takes the file away with the driver.
    let output = node.worker("unload", true);
    assert_eq!(output.status, 0, "{}", output.text());
    assert_ne!(node.guest.run(&format!("test -e {file}")).unwrap().status, 0);
    assert!(node.loaded().is_empty());
}
