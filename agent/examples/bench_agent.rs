//! Measures the programs of the agent as processes of their own, on a node with eight NICs and an API server that is a
//! stand-in: time from start to the first report or scrape, memory, CPU while nothing happens, and the exporter's memory
//! over many scrapes.
//!
//! `cargo run --release -p cxi-agent --example bench_agent [SCRAPES]` after `cargo build --release -p cxi-agent`; `CXI_BENCH_PROGRAMS`
//! names a directory with other builds of them, such as those of an image.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod node;
mod process;
#[allow(dead_code, reason = "what tests need")]
#[path = "../tests/lab/server.rs"]
mod server;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use process::Process;
use serde_json::json;
use server::Server;

/// The one that the stand-in for an API server knows.
const NODE: &str = "n1";

/// What an allocator may keep more; 70 bytes lost in each scrape would be as much.
const MOST_GROWTH_KIB: u64 = 512;

#[tokio::main]
async fn main() {
    let scrapes: usize = std::env::args().nth(1).map_or(10_000, |count| count.parse().unwrap());
    let tree = node::node();
    let roots = [("SYSFS_ROOT", "sys"), ("DEVFS_ROOT", "dev"), ("PROCFS_ROOT", "proc"), ("RUN_ROOT", "run")]
        .map(|(variable, directory)| (variable, tree.path(directory)));
    let (server, address) = Server::listen().await;
    server.node(NODE, "2026-01-01T00:00:00Z");
    let kubeconfig = tree.path("kubeconfig");
    fs::write(&kubeconfig, kubeconfig_for(address)).unwrap();

    Process::head();
    let mut report = Process::start("cxi-agent", |command| {
        command.arg("report").env("NODE_NAME", NODE).env("KUBECONFIG", &kubeconfig).envs(roots.clone());
    });
    tokio::task::block_in_place(|| report.row("cxi-agent report", || !server.report(NODE).is_null()));
    drop(report);

    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut exporter = Process::start("cxi-agent", |command| {
        let listen = listen.to_string();
        command.arg("exporter").env("NODE_NAME", NODE).env("CXI_EXPORTER_LISTEN", listen).envs(roots);
    });
    exporter.row("cxi-agent exporter", || scrape(listen).is_some_and(|page| page.contains("cxi_device_count")));
    scraped(&exporter, listen, scrapes);
}

/// Scrapes the exporter again and again, and shows that its memory does not grow with that.
fn scraped(exporter: &Process, listen: SocketAddr, scrapes: usize) {
    println!("{:28} {:>9} {:>9} {:>9} {:>11}", "cxi-agent exporter by HTTP", "scrapes", "p50 ms", "p99 ms", "RSS KiB");
    let mut memory = Vec::new();
    for part in 1..=4 {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..scrapes / 4 {
            let began = Instant::now();
            let page = scrape(listen).unwrap();
            times.push(began.elapsed());
            assert!(page.contains("cxi_device_count"), "{page}");
        }
        times.sort_unstable();
        let at = |permille: usize| times[times.len().saturating_sub(1) * permille / 1000].as_secs_f64() * 1000.0;
        memory.push(exporter.resident());
        let (name, kib) = (format!("round {part} of 4"), exporter.resident());
        println!("{name:28} {:>9} {:>9.2} {:>9.2} {kib:>11}", times.len(), at(500), at(990));
    }
    let growth = memory[3].saturating_sub(memory[0]);
    println!("from the end of round 1 to that of round 4, its memory grew by {growth} KiB");
    assert!(growth <= MOST_GROWTH_KIB, "that is more than {MOST_GROWTH_KIB} KiB: it is not constant");
}

/// What the exporter answers, if it does.
fn scrape(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

fn kubeconfig_for(address: SocketAddr) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{ "name": "bench", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "bench", "user": {} }],
        "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
    })
    .to_string()
}
