//! Scenarios of the cluster around a rollout: nodes that come and go, other people's hands, other CXIDrivers, an operator and
//! a KMM that die, an API server that is away, and many nodes.

mod api_server;
mod crashes;
mod every_write;
mod foreign;
mod installations;
mod kmm;
mod labels;
mod many;
mod nodes;
mod overlap;
mod records;
mod slow;
mod teardown;
