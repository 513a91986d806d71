//! The node agent: one program, one subcommand per task on a node.

pub mod cli;
pub mod log;
mod module_name;
mod removal_plan;
pub mod remove_modules;
pub mod report;
