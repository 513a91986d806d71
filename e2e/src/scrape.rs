//! Metrics of a program under test, asked for as Prometheus does.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context, Result};

/// What a program answers to `GET /metrics` without a wish for a format, head included. Blocks.
///
/// # Errors
/// If it does not answer.
pub fn metrics(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .context("ask for metrics")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("read metrics")?;
    Ok(text)
}
