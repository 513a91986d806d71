//! Measures what a kubelet waits for: `Allocate` over the plugin's unix socket, on a node with eight NICs; and a scan of them.
//! The plugin and the CDI generator are processes of their own; this fails when one of them misses its goal.
//!
//! `cargo run --release -p cxi-device-plugin --example bench_allocate [CALLS]` after `cargo build --release -p cxi-device-plugin`;
//! `CXI_BENCH_PROGRAMS` names a directory with other builds of them, such as those of an image.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::panic, reason = "the same")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[allow(dead_code, clippy::expect_used, clippy::panic, reason = "what tests need")]
#[path = "../tests/node/mod.rs"]
mod node;
#[path = "../../agent/examples/process/mod.rs"]
mod process;

use std::{
    process::{Command, ExitCode},
    time::Instant,
};

use cxi_device_plugin::kubelet_api::proto::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, device_plugin_client::DevicePluginClient,
};
use cxi_hardware::Root;
use node::{Kubelet, Node};
use process::{Goals, Process, Times, rounds};
use tokio::task::block_in_place;
use tonic::transport::Channel;

const NICS: u32 = 8;

/// Scans that are timed.
const SCANS: usize = 1000;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let calls = match rounds(10_000) {
        Ok(calls) => calls,
        Err(refused) => return refused,
    };
    let node = Node::new();
    for number in 0..NICS {
        node.add(&format!("cxi{number}"), &format!("0000:c{number}:00.0"), number / 4);
    }
    let mut goals = Goals::default();
    let mut kubelet = Kubelet::start(&node);
    let mut plugin = Process::start("cxi-device-plugin", |command| {
        command.args(["--standalone", "--no-libraries"]).env("KUBELET_DEVICE_PLUGIN_DIR", node.path("plugins"));
        roots(&node, command);
    });
    kubelet.registered().await;
    let ready = plugin.ready(|| true);

    let mut client = node::connect(node.plugin_socket()).await;
    println!("{:28} {:>9} {:>9} {:>9} {:>9} {:>11}", "", "calls", "p50 ms", "p99 ms", "max ms", "RSS KiB");
    for part in 1..=4 {
        let times = allocates(&mut client, calls).await;
        line(&format!("Allocate, four NICs, {part} of 4"), &times, plugin.resident());
    }
    scans(&node);
    Process::head();
    block_in_place(|| {
        // With what it keeps after all of that.
        plugin.row("cxi-device-plugin", ready, &mut goals);
        drop(plugin);
        generator(&node, &mut goals);
    });
    goals.end()
}

fn roots(node: &Node, command: &mut Command) {
    for (variable, directory) in [("SYSFS_ROOT", "sys"), ("DEVFS_ROOT", "dev")] {
        command.env(variable, node.path(directory));
    }
}

async fn allocates(client: &mut DevicePluginClient<Channel>, calls: usize) -> Times {
    let mut times = Vec::with_capacity(calls);
    for number in 0..calls {
        let first = u32::try_from(number).unwrap() % NICS;
        let ids = (0..4).map(|more| format!("0000:c{}:00.0-{}", (first + more) % NICS, number % 100)).collect();
        let request = AllocateRequest { container_requests: vec![ContainerAllocateRequest { devices_ids: ids }] };
        let began = Instant::now();
        client.allocate(request).await.unwrap();
        times.push(began.elapsed());
    }
    Times::new(times)
}

/// Scans in this process, as programs do it.
fn scans(node: &Node) {
    let root = Root::new(node.path("sys"), node.path("dev"));
    let scan = || {
        let began = Instant::now();
        assert_eq!(cxi_hardware::scan(&root).unwrap().nics.len(), 8);
        began.elapsed()
    };
    line("scan of eight NICs", &Times::new((0..SCANS).map(|_| scan()).collect()), "");
}

/// The CDI generator, which goes on looking. It is ready once its file is there.
fn generator(node: &Node, goals: &mut Goals) {
    let directory = node.path("cdi");
    let mut generator = Process::start("cxi-cdi-generator", |command| {
        command.args(["--watch", "--no-libraries", "--cdi-dir"]).arg(&directory);
        roots(node, command);
    });
    let ready = generator.ready(|| directory.read_dir().is_ok_and(|mut files| files.next().is_some()));
    generator.row("cxi-cdi-generator --watch", ready, goals);
}

fn line(name: &str, times: &Times, resident: impl std::fmt::Display) {
    let [p50, p99, max] = [500, 990, 1000].map(|permille| times.milliseconds(permille));
    println!("{name:28} {:>9} {p50:>9.3} {p99:>9.3} {max:>9.3} {resident:>11}", times.count());
}
