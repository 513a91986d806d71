//! Free ports on the loopback address.

use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Attempt, Error, Result};

/// How often a start is repeated because another process took a port in between.
const START_ATTEMPTS: u32 = 5;

/// The ports of one control plane, all on the loopback address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) apiserver: u16,
}

impl Ports {
    /// Ports that are free now. Another process may take one before its server does: the start is then repeated.
    pub(crate) fn choose() -> Result<Self> {
        // All are held until all are chosen, so that they differ.
        let listeners = [listen()?, listen()?, listen()?];
        let [etcd, etcd_peer, apiserver] = [port(&listeners[0])?, port(&listeners[1])?, port(&listeners[2])?];
        Ok(Self { etcd, etcd_peer, apiserver })
    }
}

/// One port that is free now.
pub(crate) fn free_port() -> Result<u16> {
    port(&listen()?)
}

fn listen() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).attempt(|| "find a free port on the loopback address".to_owned())
}

fn port(listener: &TcpListener) -> Result<u16> {
    Ok(listener.local_addr().attempt(|| "read the number of a free port".to_owned())?.port())
}

/// Starts something on ports that were free a moment ago, again if another process took one in between.
pub(crate) fn on_free_ports<T>(mut start: impl FnMut() -> Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match start() {
            Err(error) if attempt < START_ATTEMPTS && port_was_taken(&error) => attempt += 1,
            outcome => return outcome,
        }
    }
}

/// Whether a server failed because its port had been taken since it was found free.
fn port_was_taken(error: &Error) -> bool {
    matches!(error, Error::Ended { tail, .. } if tail.contains("address already in use"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_a_taken_port_repeats_the_start() {
        let ended = |tail: &str| Error::Ended {
            name: "etcd".to_owned(),
            status: "exit status: 1".to_owned(),
            log: PathBuf::new(),
            tail: tail.to_owned(),
        };
        assert!(port_was_taken(&ended("listen tcp 127.0.0.1:1: bind: address already in use")));
        assert!(!port_was_taken(&ended("unknown flag")));
    }
}
