//! A registry of images on the loopback address, for tests that push and pull: the program of the Debian package
//! docker-registry.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::Path,
};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    error::{Attempt, Result},
    ports::{free_port, on_free_ports},
    process::{Process, wait_until},
};

/// A running registry, which speaks HTTP without TLS and asks nobody who they are. It ends when this is dropped, and what was
/// pushed with it.
#[derive(Debug)]
pub struct Registry {
    // In the order in which they end.
    _process: Process,
    _data: TempDir,
    port: u16,
}

impl Registry {
    /// Starts an empty one and waits until it answers.
    ///
    /// # Errors
    /// If the program is missing or ends; the error shows the end of its log.
    pub fn start() -> Result<Self> {
        on_free_ports(Self::start_once)
    }

    fn start_once() -> Result<Self> {
        let data = tempfile::tempdir().attempt(|| "create a temporary directory for a registry".to_owned())?;
        let port = free_port()?;
        let configuration = json!({
            "version": "0.1",
            "storage": { "filesystem": { "rootdirectory": data.path().join("images") } },
            "http": { "addr": format!("127.0.0.1:{port}") },
        });
        // JSON is YAML, too.
        let file = data.path().join("registry.yaml");
        fs::write(&file, configuration.to_string()).attempt(|| format!("write {}", file.display()))?;
        let log = data.path().join("registry.log");
        let mut process = Process::start("docker-registry", Path::new("docker-registry"), &log, |command| {
            command.arg("serve").arg(&file);
        })?;
        wait_until(&mut process, "the registry", |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        Ok(Self { _process: process, _data: data, port })
    }

    /// Its name, as in `127.0.0.1:40123`.
    pub fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
