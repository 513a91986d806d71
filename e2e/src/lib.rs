//! Soft nodes, oracle and scenarios.
pub mod driver_model;
pub mod soft_node;
pub mod truth;
