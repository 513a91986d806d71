//! Policies that others hold for us. Admission policies: CEL that the API server runs by itself, so that nothing of the operator has
//! to be up for it. And `NetworkPolicies`.

mod agent;
mod mutating;
mod networks;
mod retry_handler;
mod traffic;

pub use agent::{agent, agent_binding};
pub use mutating::{Failure, Policy, binding, policy};
pub use networks::{DEFINITIONS, networks};
pub use retry_handler::{NAMESPACE_LABEL, retry_handler, sidecar_volumes, sidecar_volumes_binding};
pub use traffic::{API_SERVER_PORTS, METRICS_LABEL, MONITORING, exporter_network_policy, network_policy};
