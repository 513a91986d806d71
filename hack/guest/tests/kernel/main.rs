//! What happens to a driver on real kernels: guests with the programs of ours that run on a node, KMM's own worker, and the
//! stand-in driver. The node agent reports to a real API server.
//!
//! `cargo xtask test` prepares what is needed and runs these.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod boot_loading;
mod exporter;
mod images;
mod lab;
mod modprobe;
mod node;
mod refusals;
mod signatures;
mod upgrade;
