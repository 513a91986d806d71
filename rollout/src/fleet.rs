//! The plan for one CXIDriver as a whole: its Modules, its operands, its nodes, its status, and its end.

pub mod conditions;
mod invalid;
pub mod operands;
pub mod plan;
pub mod release;
pub mod revisions;
pub mod status;
