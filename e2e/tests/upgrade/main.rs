//! Upgrades on the real control plane with the real KMM: each scenario ends in the expected state, with a silent oracle.


mod install;

use cxi_api::CXIDriverSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A change of the spec: so many nodes at a time.
fn at_once(nodes: i32) -> impl FnOnce(&mut CXIDriverSpec) {
    move |spec| spec.update_strategy.max_unavailable = IntOrString::Int(nodes)
}
