//! Who talks to the operator and to the metrics exporter, and to whom they talk.

use cxi_api::names::{METRICS_EXPORTER_ACCOUNT, ROLE_LABEL, Role};
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};

use crate::operator::{PORT, PORT_NAME, label_selector, metadata};

/// Ports that API servers are known to listen on: behind a load balancer or on OpenShift and most distributions (443, 6443),
/// minikube (8443) and `MicroK8s` (16443). Most network plugins judge packets after the Service's address was replaced, so that of
/// the Service does not suffice.
pub const API_SERVER_PORTS: [i32; 4] = [443, 6443, 8443, 16443];

/// Label of namespaces whose pods may ask for metrics.
pub const METRICS_LABEL: (&str, &str) = ("cxi.hpe.com/metrics", "allowed");

/// Namespaces that have a Prometheus by custom, whose pods may ask for metrics without a label.
pub const MONITORING: [&str; 3] = ["monitoring", "openshift-monitoring", "openshift-user-workload-monitoring"];

/// The operator is asked for its health and metrics and talks to the API server; it needs no DNS, because Kubernetes hands it
/// the API server's address. Its kubelet is not named, and cannot be: a node reaches its own pods whatever a `NetworkPolicy` says.
pub fn network_policy() -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(label_selector()),
            policy_types: Some(["Ingress", "Egress"].map(str::to_owned).to_vec()),
            ingress: Some(vec![metrics(IntOrString::Int(PORT))]),
            egress: Some(vec![NetworkPolicyEgressRule {
                to: None,
                ports: Some(API_SERVER_PORTS.map(|number| port(IntOrString::Int(number))).to_vec()),
            }]),
        }),
    }
}

/// The metrics exporter answers on the port that a CXIDriver says, and opens no connections.
pub fn exporter_network_policy() -> NetworkPolicy {
    let role = [(ROLE_LABEL.to_owned(), Role::MetricsExporter.as_str().to_owned())];
    let mut metadata = metadata();
    metadata.name = Some(METRICS_EXPORTER_ACCOUNT.to_owned());
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(role.into()), ..LabelSelector::default() }),
            policy_types: Some(["Ingress", "Egress"].map(str::to_owned).to_vec()),
            ingress: Some(vec![metrics(IntOrString::String(PORT_NAME.to_owned()))]),
            egress: None,
        }),
    }
}

fn metrics(number: IntOrString) -> NetworkPolicyIngressRule {
    let (key, value) = METRICS_LABEL;
    let labelled =
        LabelSelector { match_labels: Some([(key.to_owned(), value.to_owned())].into()), ..LabelSelector::default() };
    let named = LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "kubernetes.io/metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(MONITORING.map(str::to_owned).to_vec()),
        }]),
        ..LabelSelector::default()
    };
    let peer = |selector| NetworkPolicyPeer { namespace_selector: Some(selector), ..NetworkPolicyPeer::default() };
    NetworkPolicyIngressRule { from: Some([labelled, named].map(peer).to_vec()), ports: Some(vec![port(number)]) }
}

fn port(number: IntOrString) -> NetworkPolicyPort {
    NetworkPolicyPort { port: Some(number), protocol: Some("TCP".to_owned()), ..NetworkPolicyPort::default() }
}
