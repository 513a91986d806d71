//! Soft nodes, oracle and scenarios of the CXI operator on a real control plane with the real KMM.

pub mod audit;
pub mod bench;
pub mod client;
pub mod demo;
pub mod driver_model;
pub mod harness;
pub mod inventory;
pub mod jobs;
pub mod node_program;
pub mod operator;
pub mod oracle;
pub mod plain;
pub mod planes;
pub mod rights;
pub mod scenario;
pub mod scrape;
pub mod soft_node;
pub mod table;
pub mod truth;
pub mod wait;
pub mod watch;
