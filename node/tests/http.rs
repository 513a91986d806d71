//! The HTTP server against those who would keep it from its work.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use cxi_node::http::{NodeIps, Plain, serve, text};
use hyper::{Request, StatusCode, body::Incoming};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

/// What the kubelet of the tests connects from; all other addresses of the loopback are those of pods.
const KUBELET: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn pod(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number)
}

/// A server in a runtime of its own.
fn start() -> (SocketAddr, CancellationToken) {
    let end = CancellationToken::new();
    let (address, stop) = (std::sync::mpsc::channel(), end.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.0.send(listener.local_addr().unwrap()).unwrap();
            let handler = |request: Request<Incoming>| async move {
                let found = request.uri().path() == "/healthz";
                text(if found { StatusCode::OK } else { StatusCode::NOT_FOUND }, "ok\n")
            };
            serve(listener, Plain, |from| from == IpAddr::from(KUBELET), handler, stop).await;
        });
    });
    (address.1.recv().unwrap(), end)
}

fn connect(address: SocketAddr, from: Ipv4Addr) -> std::net::TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.into(), 0)).unwrap();
        socket.connect(address).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(stream: &mut std::net::TcpStream) -> String {
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: n1\r\n\r\n");
    let mut answer = [0; 512];
    let read = stream.read(&mut answer).unwrap_or_default();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

fn is_answered(address: SocketAddr, from: Ipv4Addr) -> bool {
    ask(&mut connect(address, from)).starts_with("HTTP/1.1 200 ")
}

/// Resident memory of this process, in bytes.
fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Open files that may be used by this process, as many as it may have at all.
fn open_files() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.current.map_or(usize::MAX, |most| usize::try_from(most).unwrap())
}

#[test]
fn eight_thousand_halves_of_requests_cost_little_and_are_gone_in_seconds() {
    let count = 8000.min(open_files() / 2);
    assert!(count >= 400, "too few files may be open to try it");
    let (address, end) = start();
    assert!(is_answered(address, KUBELET));
    let before = memory();
    let mut halves = Vec::with_capacity(count);
    for number in 0..count {
        let from = pod(u8::try_from(number % 200).unwrap());
        let mut stream = connect(address, from);
        // As many as are sent away at once may be so before they have said anything.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
        halves.push(stream);
        if number % 1000 == 999 {
            assert!(is_answered(address, KUBELET), "after {number}");
        }
    }
    let began = Instant::now();
    assert!(is_answered(address, KUBELET) && is_answered(address, pod(201)));
    let grown = memory().saturating_sub(before);
    assert!(grown < 20 << 20, "{count} connections cost {grown} bytes");
    let mut rest = Vec::new();
    for mut half in halves {
        let _ = half.read_to_end(&mut rest);
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    end.cancel();
}

#[test]
fn pods_that_hold_places_starve_neither_the_scrape_nor_the_probe() {
    let (address, end) = start();
    let mut prometheus = connect(address, pod(99));
    assert!(ask(&mut prometheus).starts_with("HTTP/1.1 200 "));
    // Each asked once, and is now silent for the half minute that Prometheus may be.
    let mut held = Vec::new();
    for number in 0..4 {
        for _ in 0..16 {
            let mut stream = connect(address, pod(number));
            assert!(ask(&mut stream).starts_with("HTTP/1.1 200 "));
            held.push(stream);
        }
    }
    assert!(ask(&mut prometheus).starts_with("HTTP/1.1 200 "), "on the connection that it has");
    assert!(is_answered(address, pod(100)), "on a new one");
    assert!((0..40).all(|_| is_answered(address, KUBELET)));
    assert!((0..40).all(|number| is_answered(address, pod(number))), "even from there");
    end.cancel();
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let (address, end) = start();
    let mut stream = connect(address, pod(1));
    let _ = stream.write_all(format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    end.cancel();
}

#[test]
fn the_nodes_own_addresses_are_the_loopback_and_those_that_are_named() {
    let node: NodeIps = "10.0.0.7, fd00::7,".parse().unwrap();
    for (from, own) in
        [("127.0.0.1", true), ("::1", true), ("::ffff:10.0.0.7", true), ("fd00::7", true), ("10.0.0.8", false)]
    {
        assert_eq!(node.contain(from.parse().unwrap()), own, "{from}");
    }
    assert_eq!("".parse(), Ok(NodeIps::default()));
    assert!("here".parse::<NodeIps>().is_err());
}
