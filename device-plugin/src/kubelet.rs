//! Serving the kubelet: registering with it, noticing that it restarted, and answering its calls.

pub mod registration;
pub mod server;
pub mod service;
pub mod session;
pub mod socket_watch;
