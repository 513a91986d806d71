//! The exporter holds nothing of the driver: it is scraped without pause, reads the NICs each time, and keeps nobody from
//! unloading.

use cxi_guest::Machine;

use crate::{
    lab::{self, A, B, KERNELS},
    node::Node,
};

#[test]
fn a_driver_is_swapped_while_its_counters_are_read_without_pause() {
    let kernel = lab::kernel(KERNELS[1]);
    let mut node = Node::boot(&Machine { name: "exporter".into(), nics: 2, ..Machine::default() }, &kernel);
    node.guest.start("exec cxi-agent exporter --node-name n --max-age 0s >/run/exporter.log 2>&1").unwrap();
    let scrape = "wget -qO /run/page http://127.0.0.1:9090/metrics && mv /run/page /run/last && echo >>/run/scrapes";
    node.guest.start(&format!("while :; do {scrape} || sleep 0.1; done")).unwrap();
    let until = |node: &mut Node, nics: u32| {
        let seen = format!("grep -q 'cxi_device_count{{node=\"n\"}} {nics}$' /run/last");
        let script =
            format!("for try in $(seq 300); do {seen} && exit 0; sleep 0.2; done; cat /run/exporter.log; exit 1");
        node.guest.succeed(&script).unwrap();
    };
    until(&mut node, 0);
    for release in [A, B, A, B] {
        node.install(release);
        until(&mut node, 2);
        let link = node.guest.succeed("grep -c '^cxi_device_link_state{' /run/last").unwrap();
        assert_eq!(link, "2", "they are read, not only counted");
        // Scrapes go on meanwhile, and none of them is waited for.
        node.remove();
        until(&mut node, 0);
    }
    let scrapes: u32 = node.guest.succeed("wc -l </run/scrapes").unwrap().parse().unwrap();
    assert!(scrapes > 20, "only {scrapes} scrapes");
    assert!(!node.was_forced());
    let kernel = node.dmesg();
    assert!(!kernel.contains("BUG:") && !kernel.contains("WARNING:"), "{kernel}");
}
