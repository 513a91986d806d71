//! An upgrade and the way back, with everything that a node proves on the way.

use cxi_api::node_report::Link;
use cxi_guest::{Flavour, Kernel, Line, Machine};
use rstest::rstest;

use crate::{
    images::Images,
    lab::{self, A, B, KERNELS},
    node::{Node, STACK, proves},
};

#[rstest]
#[case::the_older_kernel("node-6-1", KERNELS[0], Images::by_make)]
#[case::the_newer_kernel_and_images_of_the_pipeline("node-6-12", KERNELS[1], Images::by_pipeline)]
fn a_driver_is_swapped_and_swapped_back(
    #[case] name: &str,
    #[case] kernel: (Line, Flavour),
    #[case] images: fn(&Kernel) -> Images,
) {
    let kernel = lab::kernel(kernel);
    let machine = Machine { name: name.into(), nics: 3, ..Machine::default() };
    let mut node = Node::boot_with_images(&machine, &kernel, images(&kernel));
    let (a, b) = (node.build_ids(A), node.build_ids(B));
    assert!(a.iter().all(|(module, id)| b[module] != *id), "two releases have no module in common");

    // Nothing is loaded, and that is proved.
    let report = node.proof(A);
    assert_eq!(report.kernel, kernel.release);
    assert!(report.modules.is_empty() && report.devices.is_empty() && report.driver_version.is_none(), "{report:#?}");

    node.install(A);
    let report = node.proof(A);
    assert!(proves(&report, &a), "{report:#?}");
    assert_eq!(report.driver_version.as_deref(), Some(A));
    let found: Vec<_> =
        report.devices.iter().map(|nic| (nic.name.as_str(), nic.pci_address.as_str(), nic.link)).collect();
    let expected = [("cxi0", "0010:00:00.0"), ("cxi1", "0010:00:01.0"), ("cxi2", "0010:00:02.0")];
    assert_eq!(found, expected.map(|(name, address)| (name, address, Link::Up)));
    // The release that is loaded is not the other one, although names, files and srcversions say nothing of it.
    assert_eq!(node.proof(B).driver_version, None);

    // A process outside Kubernetes has a device open: it is named, and nothing is unloaded.
    let pid = node.guest.start("exec 3</dev/cxi1; exec sleep 1000").unwrap();
    let report = node.report_when("names the holder", |report| !report.open_files.is_empty());
    let holder = &report.open_files[0];
    assert_eq!((holder.device.as_str(), holder.command.as_str(), &holder.pod_uid), ("cxi1", "sleep", &None));
    let refused = node.unload();
    assert_ne!(refused.status, 0);
    assert!(refused.text().contains("Module cxi_user is in use"), "{}", refused.text());
    // A refusal costs nothing: the holder keeps its network interface too.
    assert_eq!(node.loaded(), STACK, "not one module is gone");
    let interfaces = "for nic in /sys/class/cxi/cxi*; do ls $nic/device/net; done";
    assert_eq!(
        node.guest.succeed(interfaces).unwrap().split_whitespace().collect::<Vec<_>>(),
        ["hsn0", "hsn1", "hsn2"]
    );
    let report = node.proof(A);
    assert_eq!(report.open_files.len(), 1, "{report:#?}");
    // It closes the device.
    node.guest.succeed(&format!("kill {pid} && while [ -d /proc/{pid} ]; do sleep 0.1; done")).unwrap();
    node.remove();
    assert!(node.loaded().is_empty(), "all five are gone, those too that modprobe forgets by itself");
    let report = node.proof(B);
    assert!(report.modules.is_empty() && report.devices.is_empty() && report.open_files.is_empty(), "{report:#?}");

    for (release, build_ids) in [(B, &b), (A, &a)] {
        node.install(release);
        assert_eq!(node.loaded(), STACK);
        let report = node.proof(release);
        assert!(proves(&report, build_ids), "{release}: {report:#?}");
        assert_eq!((report.driver_version.as_deref(), report.devices.len()), (Some(release), 3));
        node.remove();
        assert!(node.proof(release).modules.is_empty());
    }
    assert!(!node.was_forced());
}

#[test]
fn what_the_device_plugin_tells_the_container_runtime_follows_the_driver() {
    let kernel = lab::kernel(KERNELS[1]);
    let mut node = Node::boot(&Machine { name: "plugin".into(), nics: 2, ..Machine::default() }, &kernel);
    let spec = "/var/run/cdi/*.json";
    node.guest.succeed("mkdir -p /var/run/cdi /var/lib/kubelet/device-plugins").unwrap();
    node.guest.start("exec cxi-device-plugin --standalone --cdi --log-format text >/run/plugin.log 2>&1").unwrap();
    node.install(A);
    let wait = |node: &mut Node, condition: &str| {
        let script = format!(
            "for try in $(seq 100); do if {condition}; then exit 0; fi; sleep 0.2; done; cat /run/plugin.log; ls -lR /var/run/cdi; exit 1"
        );
        node.guest.succeed(&script).unwrap();
    };
    wait(&mut node, &format!("grep -q /dev/cxi0 {spec} && grep -q /dev/cxi1 {spec}"));
    // The generator for nodes without the plugin sees the same.
    let generated = node.guest.succeed("cxi-cdi-generator --dry-run").unwrap();
    assert!(generated.contains("0010:00:00.0") && generated.contains("/dev/cxi1"), "{generated}");
    // A link that goes down is seen, and the plugin holds no device: it never stands in the way of an unload.
    let firmware = "cxi_ss1 0010:00:01.0: Direct firmware load for cxi/serdes.bin failed with error -2";
    node.guest.succeed(&format!("echo '<4>{firmware}' >/dev/kmsg")).unwrap();
    node.guest.succeed("echo 2 >/sys/module/cxi_ss1/parameters/link_down").unwrap();
    let report = node.report_when("sees the link", |report| {
        report.devices.iter().any(|nic| nic.link == cxi_api::node_report::Link::Down)
    });
    assert_eq!(report.devices[1].name, "cxi1");
    // While it stays down the agent reads the kernel's log. User space cannot speak for the kernel there.
    std::thread::sleep(std::time::Duration::from_secs(15));
    let report = node.report_when("is there", |_| true);
    assert_eq!(report.kernel_messages, Vec::<String>::new(), "user space is quoted as the kernel");
    node.remove();
    wait(&mut node, &format!("! grep -q /dev/cxi {spec} 2>/dev/null"));
    node.install(B);
    wait(&mut node, &format!("grep -q /dev/cxi1 {spec}"));
}
