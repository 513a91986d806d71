//! The node agent: one program, one subcommand per task on a node, one folder per task.
//!
//! Invariant: what could not be read is never reported as "nothing there".

pub mod cli;
pub mod exporter;
mod flags;
pub mod install;
pub mod modules;
pub mod report;
pub mod retry_handler;

pub use cxi_hardware::retry_handler::Expectation;
