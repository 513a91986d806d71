//! What a container with a NIC gets: the device nodes, the user-space libraries of the host, what the administrator adds, and the
//! CDI file that says so to the container runtime.
//!
//! Invariant: the same host gives a NIC the same injection, whichever program asks. Nothing here knows the kubelet or the API
//! server.

pub mod bind;
pub mod cdi;
pub mod host_args;
pub mod host_root;
pub mod libraries;
pub mod provision;

pub use bind::Bind;
