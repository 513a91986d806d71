//! How a CXIDriver has its modules loaded: `source.modprobe`, with parameters and with a firmware file from the image.

use cxi_guest::{Machine, driver::FIRMWARE};
use serde_json::json;

use crate::{
    lab::{self, A, KERNELS},
    node::{FIRMWARE_HOST_PATH, Node, WORKER_CONFIG, proves},
};

#[test]
fn a_driver_gets_its_parameters_and_its_firmware_from_the_image() {
    let kernel = lab::kernel(KERNELS[1]);
    let command_line = format!("cxi_sl.firmware={FIRMWARE}");
    let mut node = Node::boot(&Machine { name: "modprobe".into(), command_line, ..Machine::default() }, &kernel);
    assert_eq!(node.extract(&format!("/images/{A}")).status, 0);
    // Without firmwarePath nobody brings the file.
    let output = node.load();
    assert_ne!(output.status, 0, "{}", output.text());
    assert!(node.dmesg().contains(&format!("firmware {FIRMWARE} cannot be had")), "{}", node.dmesg());
    assert!(!node.loaded().contains(&"cxi_sl".to_owned()));
    node.guest.succeed("cxi-agent remove-modules --module cxi-sbl --module cxi-sl").unwrap();

    let modprobe = json!({
        "firmwarePath": "/opt/lib/firmware",
        "parameters": { "cxi-ss1": ["link_down=2", "unload_delay_ms=7"], "cxi_user": ["hold=0"] },
    });
    let output = node.worker("load", &modprobe);
    assert_eq!(output.status, 0, "{}\n{}", output.text(), node.dmesg());
    assert!(node.dmesg().contains(&format!("cxi_sl: firmware {FIRMWARE} has ")), "{}", node.dmesg());
    assert!(proves(&node.proof(A), &node.build_ids(A)));
    let file = format!("{FIRMWARE_HOST_PATH}/{FIRMWARE}");
    assert_eq!(node.guest.succeed(&format!("cat {file}")).unwrap(), format!("firmware of {A}"));
    // cxi-ss1 comes in as a dependency of others, with its parameters.
    let parameters = node.guest.succeed("cd /sys/module/cxi_ss1/parameters && cat link_down unload_delay_ms").unwrap();
    assert_eq!(parameters, "2\n7");

    // The worker takes the file away with the driver.
    let output = node.worker("unload", &modprobe);
    assert_eq!(output.status, 0, "{}", output.text());
    assert_ne!(node.guest.run(&format!("test -e {file}")).unwrap().status, 0);
    assert!(node.loaded().is_empty());

    // The next load has no parameters, and the driver its own values.
    let plain = json!({ "firmwarePath": "/opt/lib/firmware" });
    assert_eq!(node.worker("load", &plain).status, 0);
    assert_eq!(node.guest.succeed("cat /sys/module/cxi_ss1/parameters/link_down").unwrap(), "0");
    assert_eq!(node.worker("unload", &plain).status, 0);

    // Were the worker's configuration elsewhere, the driver would not come in without its parameters.
    let moved = format!("{WORKER_CONFIG}.moved");
    let output = node.worker_at(&moved, "load", &modprobe);
    assert_ne!(output.status, 0, "{}", output.text());
    assert!(output.text().contains("cxi-parameters not found"), "{}", output.text());
}
