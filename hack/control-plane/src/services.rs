//! A way from the API server to what answers for a Service, for webhooks: there is no network of Services here.
//!
//! The API server is told to reach the cluster through a proxy (`egressSelections` `cluster`, `HTTPConnect` by a Unix socket).
//! It looks up a Service's address itself, as it always does, and asks the proxy for a connection there.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::json;

use crate::error::{Attempt, Result};

/// Longest request for a connection that is read, in bytes. An API server sends less than a hundred.
const LONGEST_REQUEST: u64 = 4096;

/// The proxy. It takes no more connections when this is dropped.
pub(crate) struct Services {
    socket: PathBuf,
    configuration: PathBuf,
    routes: Arc<Routes>,
    ended: Arc<AtomicBool>,
}

/// Which port of the loopback address answers for a Service's address.
type Routes = Mutex<HashMap<SocketAddr, u16>>;

impl Services {
    /// Begins to listen, and writes what the API server is to read.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let socket = directory.join("services.sock");
        let listener = UnixListener::bind(&socket).attempt(|| format!("listen on {}", socket.display()))?;
        let configuration = directory.join("egress.json");
        let text = json!({
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{
                "name": "cluster",
                "connection": { "proxyProtocol": "HTTPConnect", "transport": { "uds": { "udsName": socket } } },
            }],
        });
        fs::write(&configuration, text.to_string()).attempt(|| format!("write {}", configuration.display()))?;
        let (routes, ended) = (Arc::new(Routes::default()), Arc::new(AtomicBool::new(false)));
        let theirs = (Arc::clone(&routes), Arc::clone(&ended));
        thread::spawn(move || accept(&listener, &theirs.0, &theirs.1));
        Ok(Self { socket, configuration, routes, ended })
    }

    /// The argument of kube-apiserver that makes it ask here.
    pub(crate) fn flag(&self) -> String {
        format!("--egress-selector-config-file={}", self.configuration.display())
    }

    /// Lets a port of the loopback address answer for a Service.
    pub(crate) fn answer(&self, service: SocketAddr, port: u16) {
        // A map of copies is never half changed.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).insert(service, port);
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes who waits for a connection. Where that fails nobody does.
        let _ = UnixStream::connect(&self.socket);
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Services").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn accept(listener: &UnixListener, routes: &Arc<Routes>, ended: &AtomicBool) {
    for connection in listener.incoming() {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(connection) = connection else { continue };
        let routes = Arc::clone(routes);
        thread::spawn(move || {
            // The API server says in its own words that the connection ended.
            let _ = tunnel(&connection, &routes);
        });
    }
}

/// Answers one request for a connection, and carries what is said over it.
fn tunnel(client: &UnixStream, routes: &Routes) -> io::Result<()> {
    let asked = request(client)?;
    let port = asked.and_then(|service| routes.lock().unwrap_or_else(PoisonError::into_inner).get(&service).copied());
    let server = port.map(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port))).transpose();
    let mut answers = client;
    let Ok(Some(server)) = server else {
        return answers.write_all(b"HTTP/1.1 502 nobody answers for this Service\r\n\r\n");
    };
    answers.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    // Either side may hang up at any time: what is left of the connection then ends, too.
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut from, mut to) = (client, &server);
            let _ = io::copy(&mut from, &mut to);
            let _ = server.shutdown(Shutdown::Write);
        });
        let (mut from, mut to) = (&server, client);
        let _ = io::copy(&mut from, &mut to);
        let _ = client.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// The address in `CONNECT 10.96.0.7:443 HTTP/1.1`, if that is what the client says. It says no more before it is answered.
fn request(client: &UnixStream) -> io::Result<Option<SocketAddr>> {
    let mut lines = BufReader::new(io::Read::take(client, LONGEST_REQUEST));
    let mut first = String::new();
    lines.read_line(&mut first)?;
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 && line.trim_end() != "" {
        line.clear();
    }
    let mut words = first.split_whitespace();
    Ok((words.next() == Some("CONNECT")).then(|| words.next()?.parse().ok()).flatten())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    use super::*;

    /// Says `hello` to each who comes, then what it is told.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                connection.write_all(b"hello ").unwrap();
                io::copy(&mut connection.try_clone().unwrap(), &mut connection).unwrap();
            }
        });
        port
    }

    fn ask(directory: &Path, request: &str, then: &str) -> String {
        let mut connection = UnixStream::connect(directory.join("services.sock")).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).unwrap();
        // Who was refused has hung up.
        let _ = connection.write_all(then.as_bytes());
        let _ = connection.shutdown(Shutdown::Write);
        let mut rest = String::new();
        let _ = connection.read_to_string(&mut rest);
        String::from_utf8(answer.to_vec()).unwrap() + &rest
    }

    #[test]
    fn who_answers_for_a_service_is_reached_and_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let services = Services::start(directory.path()).unwrap();
        let before = ask(directory.path(), "CONNECT 10.96.0.7:443 HTTP/1.1\r\nHost: x\r\n\r\n", "");
        assert!(before.starts_with("HTTP/1.1 502"), "{before}");

        services.answer("10.96.0.7:443".parse().unwrap(), echo());
        let there = ask(directory.path(), "CONNECT 10.96.0.7:443 HTTP/1.1\r\nHost: x\r\n\r\n", "world");
        assert!(there.starts_with("HTTP/1.1 200") && there.ends_with("\r\n\r\nhello world"), "{there}");

        for request in ["CONNECT 10.96.0.8:443 HTTP/1.1\r\n\r\n", "GET 10.96.0.7:443 HTTP/1.1\r\n\r\n", "\r\n\r\n"] {
            let refused = ask(directory.path(), request, "");
            assert!(refused.starts_with("HTTP/1.1 502"), "{request}: {refused}");
        }
    }

    #[test]
    fn nobody_is_reached_after_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let services = Services::start(directory.path()).unwrap();
        let text = fs::read_to_string(&services.configuration).unwrap();
        assert!(text.contains(&directory.path().join("services.sock").display().to_string()), "{text}");
        drop(services);
        // The listener ends a moment after it was woken.
        let since = std::time::Instant::now();
        while UnixStream::connect(directory.path().join("services.sock")).is_ok() {
            assert!(since.elapsed().as_secs() < 20, "it listens on");
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
