//! Measures the programs of the agent as processes of their own, on a node with eight NICs and an API server that is a
//! stand-in: time from start to the first report or scrape, memory, and CPU while nothing happens.
//!
//! `cargo run --release -p cxi-agent --example bench_agent` after `cargo build --release -p cxi-agent`; `CXI_BENCH_PROGRAMS`
//! names a directory with other builds of them, such as those of an image.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod process;
#[allow(dead_code, reason = "what tests need")]
#[path = "../tests/lab/server.rs"]
mod server;
#[allow(dead_code, reason = "what tests need")]
#[path = "../tests/lab/tree.rs"]
mod tree;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use process::Process;
use serde_json::json;
use server::Server;
use tree::Tree;

/// The one that the stand-in for an API server knows.
const NODE: &str = "n1";

#[tokio::main]
async fn main() {
    let tree = Tree::new();
    for number in 0..8 {
        tree.add(&format!("cxi{number}"), &format!("0000:c{number}:00.0"));
    }
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
    for _ in 0..100 {
        scrape(listen).unwrap();
    }
    println!("{:28} {:>12} {:>11}", "after 100 scrapes", "", exporter.resident());
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
