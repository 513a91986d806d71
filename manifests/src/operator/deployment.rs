//! The Deployment.

use std::collections::BTreeMap;

use cxi_api::names::OPERATOR;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Affinity, Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, NodeAffinity, NodeSelector,
            NodeSelectorRequirement, NodeSelectorTerm, PodSecurityContext, PodSpec, PodTemplateSpec,
            PreferredSchedulingTerm, Probe, ResourceRequirements, SeccompProfile, SecurityContext, Toleration,
            TopologySpreadConstraint,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use crate::environment::{field, variable};

use super::{Images, PORT, PORT_NAME, label_selector, labels, metadata};

/// Name of the operator's container.
pub const CONTAINER: &str = "operator";

/// Variable that has the operator apply the policy for node agents, where nothing else does.
pub const APPLY_AGENT_POLICY: &str = "APPLY_AGENT_POLICY";

/// One works, the other takes over within seconds with warm caches.
const REPLICAS: i32 = 2;

/// Architectures that images are built for.
pub const ARCHITECTURES: [&str; 1] = ["amd64"];

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// The Deployment.
pub fn deployment(images: &Images) -> Deployment {
    Deployment {
        metadata: metadata(),
        spec: Some(DeploymentSpec {
            replicas: Some(REPLICAS),
            revision_history_limit: Some(3),
            selector: label_selector(),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: pod_template(images),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// The operator's pods.
pub fn pod_template(images: &Images) -> PodTemplateSpec {
    let annotations = [("kubectl.kubernetes.io/default-container", CONTAINER)];
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            labels: Some(labels()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(OPERATOR.to_owned()),
            automount_service_account_token: Some(true),
            enable_service_links: Some(false),
            // May be used in every namespace; the operands, without which nodes lose their NICs, are node-critical.
            priority_class_name: Some("system-cluster-critical".to_owned()),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                // No user: the image names one, and OpenShift picks its own.
                seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
                ..PodSecurityContext::default()
            }),
            // Actions under way finish within 20 s.
            termination_grace_period_seconds: Some(30),
            affinity: Some(Affinity { node_affinity: Some(node_affinity()), ..Affinity::default() }),
            tolerations: Some(vec![control_plane_toleration()]),
            topology_spread_constraints: Some(vec![spread()]),
            containers: vec![container(images)],
            ..PodSpec::default()
        }),
    }
}

fn container(images: &Images) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(images.operator.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        env: Some(environment(images)),
        ports: Some(vec![ContainerPort {
            container_port: PORT,
            name: Some(PORT_NAME.to_owned()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        // A loop that stands still is noticed by the operator itself after minutes.
        liveness_probe: Some(probe("/healthz", 20)),
        // A large cluster takes a while to be read; until then a replica is alive but not ready.
        readiness_probe: Some(probe("/readyz", 5)),
        resources: Some(ResourceRequirements {
            requests: Some(quantities([("cpu", "50m"), ("memory", "64Mi")])),
            // No limit on CPU: an operator that is slowed down in the middle of a node's turn keeps that node out of
            // service longer.
            limits: Some(quantities([("memory", "1Gi")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn environment(images: &Images) -> Vec<EnvVar> {
    let mut variables = vec![
        field("OPERATOR_NAMESPACE", "metadata.namespace"),
        field("NODE_NAME", "spec.nodeName"),
        field("NODE_IPS", "status.hostIPs"),
    ];
    variables.extend(images.operands.iter().map(|(name, image)| variable(name, image)));
    variables
}

/// Nodes whose architecture the image is built for; among them, where it can be, those without jobs and NICs: the operator
/// upgrades the node that it runs on last, and has to move for that.
fn node_affinity() -> NodeAffinity {
    let requirement = |key: &str, operator: &str, values: &[&str]| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: (!values.is_empty()).then(|| values.iter().map(|value| (*value).to_owned()).collect()),
    };
    let term = |requirements| NodeSelectorTerm { match_expressions: Some(requirements), match_fields: None };
    let built_for = vec![
        requirement("kubernetes.io/arch", "In", &ARCHITECTURES),
        requirement("kubernetes.io/os", "In", &["linux"]),
    ];
    NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: vec![term(built_for)],
        }),
        preferred_during_scheduling_ignored_during_execution: Some(vec![PreferredSchedulingTerm {
            weight: 1,
            preference: term(vec![requirement(CONTROL_PLANE, "Exists", &[])]),
        }]),
    }
}

fn control_plane_toleration() -> Toleration {
    Toleration {
        key: Some(CONTROL_PLANE.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoSchedule".to_owned()),
        ..Toleration::default()
    }
}

fn spread() -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        label_selector: Some(label_selector()),
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        // A cluster with one suitable node has two operators on it rather than one that waits.
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        ..TopologySpreadConstraint::default()
    }
}

fn probe(path: &str, period: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn quantities<const N: usize>(table: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    table.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_passes_the_restricted_level() {
        let spec = pod_template(&Images { operator: "registry.example/operator:1".into(), operands: Vec::new() })
            .spec
            .unwrap();
        let pod = spec.security_context.unwrap();
        assert_eq!((pod.run_as_non_root, pod.seccomp_profile.unwrap().type_.as_str()), (Some(true), "RuntimeDefault"));
        assert!(spec.volumes.is_none() && spec.host_network.is_none() && spec.host_pid.is_none());
        let container = spec.containers[0].security_context.clone().unwrap();
        assert_eq!(container.allow_privilege_escalation, Some(false));
        assert_eq!(container.read_only_root_filesystem, Some(true));
        assert_eq!(container.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    }
}
