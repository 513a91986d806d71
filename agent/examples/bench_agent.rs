//! Measures the programs of the agent as processes of their own, on a node with eight NICs and an API server that is a
//! stand-in: time from start to ready, memory, CPU while nothing happens, scrapes of the exporter and its memory over many of
//! them. Fails when one of them misses its goal.
//!
//! `cargo run --release -p cxi-agent --example bench_agent [SCRAPES]` after `cargo build --release -p cxi-agent`; `CXI_BENCH_PROGRAMS`
//! names a directory with other builds of them, such as those of an image. The node is a tree in a temporary directory with
//! 2,000 processes, and as many telemetry files per NIC as the driver has; what is not measured is the time that the hardware
//! takes for a counter (about 1 µs each, over PCIe).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod node;
mod process;
#[allow(dead_code, reason = "what tests need")]
#[path = "../tests/lab/server.rs"]
mod server;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use node::{FILES, NICS, Tree};
use process::{Goals, Process, Times, rounds};
use serde_json::json;
use server::Server;

/// The one that the stand-in for an API server knows.
const NODE: &str = "n1";

/// When its phases begin: that in which it is in service, and that in which it is emptied.
const SINCE: &str = "2026-01-01T00:00:00Z";
const CLOSED: &str = "2026-01-01T00:01:00Z";

/// What 99 of 100 scrapes of all counters on the list may take.
const SCRAPE: Duration = Duration::from_millis(50);

/// What an allocator may keep more; 70 bytes lost in each scrape would be as much.
const MOST_GROWTH_KIB: u64 = 512;

/// Exporters that are started, for the first scrape of each.
const STARTS: usize = 5;

/// A retry handler that attaches and does nothing until it is asked to end, or nobody is left to ask.
const RETRY_HANDLER: &str = "#!/bin/sh
echo 17 >$STAND_IN_NODE/sys/class/cxi/${1#--device=}/device/properties/pct_eq
trap 'kill $!; exit 0' TERM
sleep 600 &
wait
";

#[tokio::main]
async fn main() -> ExitCode {
    let scrapes = match rounds(10_000) {
        Ok(scrapes) => scrapes,
        Err(refused) => return refused,
    };
    let tree = node::node();
    node::add_processes(&tree);
    let (server, address) = Server::listen().await;
    server.node(NODE, SINCE);
    let enter = |phase: &str, since: &str| {
        let rollout = json!({"driver": "d", "phase": phase, "since": since});
        server.edit("cxinodes", NODE, |node| node["status"]["rollout"] = rollout);
    };
    enter("UpToDate", SINCE);
    let kubeconfig = tree.path("kubeconfig");
    fs::write(&kubeconfig, kubeconfig_for(address)).unwrap();
    let mut goals = Goals::default();

    Process::head();
    tokio::task::block_in_place(|| {
        let mut report = Process::start("cxi-agent", |command| {
            command.arg("report").env("NODE_NAME", NODE).env("KUBECONFIG", &kubeconfig).envs(roots(&tree));
        });
        let ready = report.ready(|| !server.report(NODE).is_null());
        report.row("cxi-agent report", ready, &mut goals);
        // Every look searches the processes then, which is for minutes.
        enter("Evicting", CLOSED);
        report.ready(|| server.report(NODE)["acknowledged"] == CLOSED);
        report.row("  while a node is emptied", ready, &mut goals);
        drop(report);
        retry_handler(&mut goals);
        exporter(&tree, scrapes, &mut goals);
    });
    goals.end()
}

fn roots(tree: &Tree) -> [(&'static str, PathBuf); 4] {
    [("SYSFS_ROOT", "sys"), ("DEVFS_ROOT", "dev"), ("PROCFS_ROOT", "proc"), ("RUN_ROOT", "run")]
        .map(|(variable, directory)| (variable, tree.path(directory)))
}

/// The supervisor with one process for each NIC, on a node of its own. It is ready once it has told of each.
fn retry_handler(goals: &mut Goals) {
    let tree = node::node();
    let program = tree.path("cxi_rh");
    fs::write(&program, RETRY_HANDLER).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut supervisor = Process::start("cxi-agent", |command| {
        command.arg("retry-handler").env("CXI_RH", &program).env("STAND_IN_NODE", tree.path("")).envs(roots(&tree));
    });
    let records = || {
        let entries = fs::read_dir(tree.path("run/cxi/retry-handler")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json")).count()
    };
    let ready = supervisor.ready(|| records() == NICS);
    supervisor.row("cxi-agent retry-handler", ready, goals);
}

fn exporter(tree: &Tree, scrapes: usize, goals: &mut Goals) {
    let mut first = Vec::new();
    let mut running = None;
    for _ in 0..STARTS {
        drop(running.take());
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut exporter = Process::start("cxi-agent", |command| {
            // Every scrape reads the node.
            command.args(["exporter", "--max-age", "0s", "--listen"]).arg(listen.to_string());
            command.env("NODE_NAME", NODE).envs(roots(tree));
        });
        let ready = exporter.ready(|| ask(listen, "/healthz").is_some_and(|answer| answer.ends_with("ok\n")));
        first.push(timed(listen));
        running = Some((exporter, listen, ready));
    }
    let (mut exporter, listen, ready) = running.unwrap();
    exporter.row("cxi-agent exporter", ready, goals);

    let page = ask(listen, "/metrics").unwrap();
    let samples = |of: &str| page.lines().filter(|line| line.starts_with(of)).count();
    assert_eq!(samples("cxi_telemetry_"), NICS * cxi_agent::exporter::default_counters().count(), "{page}");
    println!("{NICS} NICs, {FILES} telemetry files each; {} samples in a scrape", samples("cxi_"));
    println!("{:28} {:>9} {:>9} {:>9} {:>9} {:>11}", "by HTTP", "scrapes", "p50 ms", "p99 ms", "max ms", "RSS KiB");
    line("first after a start", &Times::new(first), &exporter);
    let mut memory = Vec::new();
    for part in 1..=4 {
        round(&format!("round {part} of 4"), scrapes, listen, &exporter, goals);
        memory.push(exporter.resident());
    }
    let growth = memory[3].saturating_sub(memory[0]);
    println!("from the end of round 1 to that of round 4, its memory grew by {growth} KiB");
    goals.hold(growth <= MOST_GROWTH_KIB, || format!("memory grew by {growth} KiB, may by {MOST_GROWTH_KIB}"));
    let silent = tree.path("run/cxi/cxi0/nacks");
    fs::remove_file(&silent).unwrap();
    assert!(Command::new("mkfifo").arg(&silent).status().unwrap().success());
    round("one retry handler hangs", scrapes, listen, &exporter, goals);
    goals.resident("cxi-agent exporter after many scrapes", exporter.resident());
}

/// Scrapes again and again, and holds that to the time it may take.
fn round(name: &str, scrapes: usize, listen: SocketAddr, exporter: &Process, goals: &mut Goals) {
    let times = Times::new((0..scrapes).map(|_| timed(listen)).collect());
    line(name, &times, exporter);
    let p99 = times.at(990);
    goals.hold(p99 <= SCRAPE, || format!("{name}: 99 of 100 scrapes within {p99:.1?}, may take {SCRAPE:?}"));
}

fn line(name: &str, times: &Times, exporter: &Process) {
    let [p50, p99, max] = [500, 990, 1000].map(|permille| times.milliseconds(permille));
    println!("{name:28} {:>9} {p50:>9.2} {p99:>9.2} {max:>9.2} {:>11}", times.count(), exporter.resident());
}

/// How long a scrape takes.
fn timed(listen: SocketAddr) -> Duration {
    let began = Instant::now();
    let page = ask(listen, "/metrics").unwrap();
    let took = began.elapsed();
    assert!(page.ends_with("# EOF\n"), "{page}");
    took
}

/// What the exporter answers, if it does.
fn ask(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let headers = "Host: localhost\r\nAccept: application/openmetrics-text\r\nConnection: close";
    stream.write_all(format!("GET {path} HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes()).ok()?;
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
