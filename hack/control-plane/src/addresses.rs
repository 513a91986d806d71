//! Where things are in every control plane.

use std::net::Ipv4Addr;

/// Address of the Service `kubernetes`: the first of the range that the API server is given. What pods are told is the API
/// server is here; nothing listens there but where a node sees to it.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The namespace that KMM runs for and that the operator is installed in.
pub const NAMESPACE: &str = "cxi-operator";
