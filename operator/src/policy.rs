//! Admission policies: CEL that the API server runs by itself, so that nothing of the operator has to be up for it.

mod agent;
mod mutating;
mod networks;
mod retry_handler;

pub use agent::{AGENT, agent, agent_binding};
pub use mutating::{Failure, Policy, binding, policy};
pub use networks::{DEFINITIONS, NETWORKS, networks};
pub use retry_handler::{
    NAMESPACE_LABEL, RETRY_HANDLER, SIDECAR_VOLUMES, retry_handler, sidecar_volumes, sidecar_volumes_binding,
};
