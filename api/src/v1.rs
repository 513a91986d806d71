//! Version `v1` of our kinds: CXIDriver, CXIPreflight, CXINode and CXIDevice, with all that their schemas say.

pub mod blocker;
pub mod device;
pub mod device_list;
pub mod device_plugin;
pub mod driver;
pub mod driver_status;
pub mod layout;
pub(crate) mod limits;
pub mod node;
pub mod node_report;
pub mod outcome;
pub mod phase;
pub mod plugin_rules;
pub mod preflight;
pub mod revision;
pub mod source;
pub mod strategy;
pub mod transaction;
pub mod validation;
