//! The program against a scraper.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cxi_hardware_lab::Tree;
use serde_json::Value;

use crate::LONG;

/// The program, serving a tree.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(tree: &Tree, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cxi-agent"));
        command.args(["exporter", "--node-name", "n1", "--listen", "127.0.0.1:0"]).args(arguments);
        for (flag, path) in
            [("--sysfs-root", "sys"), ("--devfs-root", "dev"), ("--procfs-root", "proc"), ("--run-root", "run")]
        {
            command.arg(flag).arg(tree.path(path));
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = log.find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            line["address"].as_str()?.parse().ok()
        });
        thread::spawn(move || log.for_each(drop));
        Self { child, address: address.unwrap() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn ask(&self, request: &str) -> String {
        converse(self.connect(), request)
    }

    fn end(mut self) -> Duration {
        let began = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        began.elapsed()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn converse(mut stream: impl std::io::Read + std::io::Write, request: &str) -> String {
    stream.write_all(format!("{request}Host: n1\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_program_serves_both_formats_and_ends_when_asked() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    let program = Program::start(&tree, &[]);
    // Nobody is kept by somebody who says nothing, nor is the end.
    let silent = program.connect();

    let answer = program.ask("GET /metrics HTTP/1.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("# TYPE cxi_scrape_errors_total counter\n") && !answer.contains("# EOF"), "{answer}");

    let answer = program.ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(answer.contains("# TYPE cxi_scrape_errors counter\n") && answer.ends_with("# EOF\n"), "{answer}");

    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\n", "HTTP/1.1 200 "),
        ("HEAD /metrics HTTP/1.1\r\n", "HTTP/1.1 200 "),
        ("GET / HTTP/1.1\r\n", "HTTP/1.1 404 "),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n", "HTTP/1.1 405 "),
        ("nonsense\r\n", "HTTP/1.1 400 "),
    ] {
        assert!(program.ask(request).starts_with(status), "{request}");
    }
    assert!(program.end() < Duration::from_secs(10));
    drop(silent);
}

#[test]
fn who_says_nothing_keeps_nobody_out() {
    let tree = Tree::new();
    let program = Program::start(&tree, &[]);
    let mut silent: Vec<_> = (0..16).map(|_| program.connect()).collect();
    let began = Instant::now();
    let mut rest = Vec::new();
    // One more from there is answered at once, in the place of the one that has waited longest.
    assert!(program.ask("GET /healthz HTTP/1.1\r\n").starts_with("HTTP/1.1 200 "));
    let _ = silent.remove(0).read_to_end(&mut rest);
    assert!(rest.is_empty() && began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // A kubelet's probe comes from an address of its own, and gets through.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let other = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(program.address).await.unwrap().into_std().unwrap()
    });
    other.set_nonblocking(false).unwrap();
    assert!(converse(other, "GET /healthz HTTP/1.1\r\n").starts_with("HTTP/1.1 200 "));
    for mut stream in silent {
        let _ = stream.read_to_end(&mut rest);
    }
    // Not the half minute that one may be silent between two scrapes.
    assert!(rest.is_empty() && began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(program.ask("GET /metrics HTTP/1.1\r\n").starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_program_serves_https() {
    let tree = Tree::new();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    tree.write("tls.crt", &pair.cert.pem());
    tree.write("tls.key", &pair.signing_key.serialize_pem());
    let (certificate, key) = (tree.path("tls.crt"), tree.path("tls.key"));
    let program =
        Program::start(&tree, &["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let answer = converse(rustls::StreamOwned::new(client, program.connect()), "GET /metrics HTTP/1.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("cxi_device_count{node=\"n1\"} 0\n"), "{answer}");
    // Plain HTTP is not understood there, and does no harm.
    let mut plain = program.connect();
    plain.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    program.end();
}

#[test]
fn a_certificate_that_is_of_no_use_is_refused_at_the_start() {
    let tree = Tree::new();
    tree.write("tls.pem", "nothing\n");
    let file = tree.path("tls.pem");
    let output = Command::new(env!("CARGO_BIN_EXE_cxi-agent"))
        .args(["exporter", "--node-name", "n1", "--listen", "127.0.0.1:0"])
        .arg("--tls-cert")
        .arg(&file)
        .arg("--tls-key")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("tls.pem holds no certificate in PEM"), "{said}");
}
