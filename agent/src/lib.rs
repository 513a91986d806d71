//! The node agent: one program, one subcommand per task on a node.

pub mod cli;
pub mod exporter;
pub mod install;
mod interval;
pub mod load_modules;
mod module_name;
mod node_root;
mod removal_plan;
pub mod remove_modules;
pub mod report;
pub mod retry_handler;

pub use cxi_hardware::retry_handler::Expectation;
