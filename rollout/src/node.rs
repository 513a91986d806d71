//! What is known and wanted of one node outside its transaction: what is asked of it, its gates, what others changed on it, and what
//! emptying it would disturb.

pub mod disruption;
pub mod drift;
pub mod gates;
pub mod kernel_log;
pub mod request;
pub mod retry_handler;
pub mod seen;
pub mod selector;
