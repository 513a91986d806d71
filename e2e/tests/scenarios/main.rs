//! Everything that is asked of a real control plane. One program, so that its tests can hand on control planes.

mod agent_policy;
mod air_gap;
mod cluster;
mod earlier_operator;
mod install;
mod install_docs;
mod limits;
mod newer_release;
mod olm;
mod operands;
mod page;
mod planes;
mod policies;
mod preflight;
mod refusals;
mod releases;
mod soft_nodes;
mod spine;
mod trouble;
mod uninstall;
mod unreadable;
mod upgrade;
