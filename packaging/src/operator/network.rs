//! Who talks to the operator, and to whom it talks.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{PORT, label_selector, metadata};

/// Ports that API servers are known to listen on: behind a load balancer or on OpenShift and most distributions (443, 6443),
/// minikube (8443) and `MicroK8s` (16443). Most network plugins judge packets after the Service's address was replaced, so that of
/// the Service does not suffice.
pub const API_SERVER_PORTS: [i32; 4] = [443, 6443, 8443, 16443];

/// The operator is asked for its health and metrics and talks to the API server; it needs no DNS, because Kubernetes hands it
/// the API server's address.
pub fn network_policy() -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(label_selector()),
            policy_types: Some(["Ingress", "Egress"].map(str::to_owned).to_vec()),
            ingress: Some(vec![NetworkPolicyIngressRule { from: None, ports: Some(vec![port(PORT)]) }]),
            egress: Some(vec![NetworkPolicyEgressRule { to: None, ports: Some(API_SERVER_PORTS.map(port).to_vec()) }]),
        }),
    }
}

fn port(number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    }
}
