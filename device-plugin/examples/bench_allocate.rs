//! Measures what a kubelet waits for: `Allocate` over the plugin's unix socket, on a node with eight NICs; and a scan of them.
//!
//! `cargo run --release -p cxi-device-plugin --example bench_allocate [CALLS]`. Plugin and kubelet are one process here, so
//! the memory is that of both. The last line is of `cxi-device-plugin` as a process of its own: build it before, with the same
//! profile.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::panic, reason = "the same")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[allow(dead_code, clippy::expect_used, clippy::panic, reason = "what tests need")]
#[path = "../tests/node/mod.rs"]
mod node;
#[path = "../../agent/examples/process/mod.rs"]
mod process;

use std::fs;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use cxi_device_plugin::device_id::Sharing;
use cxi_device_plugin::proto::v1beta1::{AllocateRequest, ContainerAllocateRequest};
use node::{Kubelet, Node};
use process::Process;

const NICS: u32 = 8;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let calls: usize = std::env::args().nth(1).map_or(10_000, |count| count.parse().unwrap());
    let node = Node::new();
    for number in 0..NICS {
        node.add(&format!("cxi{number}"), &format!("0000:c{number}:00.0"), number / 4);
    }
    let config = node.config(Sharing::Shared { capacity: NonZeroU32::new(100).unwrap() });
    let root = config.root.clone();
    let mut kubelet = Kubelet::start(&node);
    let began = Instant::now();
    let plugin = node::Plugin::start(config, Some(cxi_api::Advertise::All));
    kubelet.registered().await;
    println!("start to registration: {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);

    let mut client = node::connect(node.plugin_socket()).await;
    let request = |number: usize| {
        let first = u32::try_from(number).unwrap() % NICS;
        let ids = (0..4).map(|more| format!("0000:c{}:00.0-{}", (first + more) % NICS, number % 100)).collect();
        AllocateRequest { container_requests: vec![ContainerAllocateRequest { devices_ids: ids }] }
    };
    println!("{:28} {:>9} {:>9} {:>9} {:>9} {:>11}", "", "calls", "p50 ms", "p99 ms", "max ms", "RSS KiB");
    for part in 1..=4 {
        let mut times = Vec::with_capacity(calls / 4);
        for number in 0..calls / 4 {
            let began = Instant::now();
            client.allocate(request(number)).await.unwrap();
            times.push(began.elapsed());
        }
        row(&format!("Allocate, four NICs, {part} of 4"), times);
    }
    let mut scans = Vec::new();
    for _ in 0..1000 {
        let began = Instant::now();
        assert_eq!(cxi_hardware::scan(&root).unwrap().nics.len(), 8);
        scans.push(began.elapsed());
    }
    row("scan of eight NICs", scans);
    plugin.withdraw().await.unwrap();
    program(&node, &mut kubelet).await;
}

/// The program itself, as a process of its own.
async fn program(node: &Node, kubelet: &mut Kubelet) {
    Process::head();
    let mut plugin = Process::start("cxi-device-plugin", |command| {
        command.arg("--standalone").arg("--no-libraries");
        for (variable, directory) in
            [("SYSFS_ROOT", "sys"), ("DEVFS_ROOT", "dev"), ("KUBELET_DEVICE_PLUGIN_DIR", "plugins")]
        {
            command.env(variable, node.path(directory));
        }
    });
    kubelet.registered().await;
    tokio::task::block_in_place(|| plugin.row("cxi-device-plugin", || true));
}

fn row(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1000].as_secs_f64() * 1000.0;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().trim_end_matches(" kB");
    println!("{name:28} {:>9} {:>9.3} {:>9.3} {:>9.3} {resident:>11}", times.len(), at(500), at(990), at(1000));
}
