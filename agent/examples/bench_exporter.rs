//! Measures scrapes of a node with eight NICs: time and memory.
//!
//! `cargo run --release -p cxi-agent --example bench_exporter [SCRAPES]`. The node is a tree in a temporary directory with
//! as many telemetry files per NIC as the driver has; what is not measured is the time that the hardware takes for a
//! counter (about 1 µs each, over PCIe). One more round has a retry handler that does not answer.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::print_stdout, reason = "its result")]

mod node;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use cxi_agent::exporter::{Collector, Format, STATISTICS_WAIT, Selection};
use node::{FILES, NICS};

fn main() {
    let scrapes = std::env::args().nth(1).map_or(10_000, |count| count.parse().unwrap());
    let tree = node::node();
    let root = tree.root().with_run(tree.path("run"));
    let mut collector = Collector::new(root, "node-1".into(), Selection::default(), STATISTICS_WAIT).unwrap();
    let first = collector.collect();
    println!("{NICS} NICs, {FILES} telemetry files each; {} samples in a scrape", first.samples());
    println!("{:28} {:>9} {:>9} {:>9} {:>9} {:>11}", "", "scrapes", "p50 ms", "p99 ms", "max ms", "RSS KiB");
    println!("{:28} {:>9} {:>9} {:>9} {:>9} {:>11}", "after the first", 1, "", "", "", resident());
    for part in 1..=4 {
        round(&mut collector, &format!("round {part} of 4"), scrapes / 4);
    }
    let silent = tree.path("run/cxi/cxi0/nacks");
    fs::remove_file(&silent).unwrap();
    assert!(Command::new("mkfifo").arg(&silent).status().unwrap().success());
    round(&mut collector, "one retry handler hangs", scrapes / 4);
}

fn round(collector: &mut Collector, name: &str, scrapes: usize) {
    let mut times: Vec<Duration> = Vec::with_capacity(scrapes);
    for _ in 0..scrapes {
        let began = Instant::now();
        let text = collector.collect().text(Format::OpenMetrics);
        times.push(began.elapsed());
        assert!(text.ends_with("# EOF\n"));
    }
    times.sort_unstable();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1000].as_secs_f64() * 1000.0;
    println!("{name:28} {scrapes:>9} {:>9.2} {:>9.2} {:>9.2} {:>11}", at(500), at(990), at(1000), resident());
}

/// Memory of this process that is in RAM, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
