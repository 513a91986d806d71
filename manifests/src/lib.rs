//! `manifests` takes values and returns objects: it reads nothing, writes nothing, and the same arguments always make the same bytes.
//!
//! Where to find what:
//! - [`rights`]: who may do what. [`policies`]: what API servers and networks hold for us.
//! - [`operands`]: the DaemonSets of a CXIDriver. [`one_shot`]: pods that do one thing on one node and end.
//! - [`kmm`]: what KMM is given. [`operator`]: the operator's own Deployment. [`images`]: which image runs.
//! - Shared by them: `daemonset`, `host` (directories of the host), [`environment`], `security`, `labels`.
#![forbid(unsafe_code)]

mod daemonset;
pub mod environment;
mod host;
pub mod images;
pub mod kmm;
mod labels;
pub mod one_shot;
mod operand;
pub mod operands;
pub mod operator;
pub mod policies;
pub mod rights;
mod rule;
mod security;

#[cfg(test)]
mod tests;
