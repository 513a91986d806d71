//! What is not kept in memory. Only what nobody reads may be dropped; what remains decides whether a change is one.

use cxi_api::names::{ROLE_LABEL, Role};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Container, Node, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus},
};
use kube::{Resource, ResourceExt};

use crate::observe::pod::{PULL_POD_LABEL, WORKER_ACTION_LABEL, is_extended, requested};

/// Annotation of `kubectl apply`: as large as the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Everything but bookkeeping of the API server.
#[allow(clippy::unnecessary_wraps, reason = "the type of a filter")]
pub fn plain<K: Resource>(mut object: K) -> Option<K> {
    bookkeeping(&mut object);
    Some(object)
}

fn bookkeeping<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// A Node: labels, taints, readiness, kernel, boot and extended resources.
#[allow(clippy::unnecessary_wraps, reason = "the type of a filter")]
pub fn node(mut node: Node) -> Option<Node> {
    bookkeeping(&mut node);
    node.metadata.annotations = None;
    node.spec = node.spec.map(|spec| NodeSpec {
        taints: spec.taints,
        unschedulable: spec.unschedulable,
        ..NodeSpec::default()
    });
    node.status = node.status.map(|status| NodeStatus {
        allocatable: status.allocatable.map(|all| all.into_iter().filter(|(name, _)| is_extended(name)).collect()),
        conditions: status.conditions.map(|mut conditions| {
            conditions.retain(|condition| condition.type_ == "Ready");
            for condition in &mut conditions {
                condition.last_heartbeat_time = None;
            }
            conditions
        }),
        node_info: status.node_info,
        ..NodeStatus::default()
    });
    Some(node)
}

/// A pod that has not ended and requests an extended resource.
pub fn holder(mut pod: Pod) -> Option<Pod> {
    let ended = matches!(phase(&pod), Some("Succeeded" | "Failed"));
    if ended || requested(&pod).next().is_none() {
        return None;
    }
    bookkeeping(&mut pod);
    pod.metadata.annotations = pod.metadata.annotations.map(|mut annotations| {
        annotations.retain(|key, _| key == super::pod::MIRROR_ANNOTATION);
        annotations
    });
    pod.spec = pod.spec.map(|spec| PodSpec {
        node_name: spec.node_name,
        containers: spec.containers.into_iter().map(resources).collect(),
        init_containers: spec.init_containers.map(|all| all.into_iter().map(resources).collect()),
        termination_grace_period_seconds: spec.termination_grace_period_seconds,
        ..PodSpec::default()
    });
    pod.status = pod.status.map(|status| PodStatus {
        phase: status.phase,
        start_time: status.start_time,
        conditions: status.conditions.map(|mut conditions| {
            conditions.retain(|condition| condition.type_ == "Ready");
            conditions
        }),
        ..PodStatus::default()
    });
    Some(pod)
}

fn resources(container: Container) -> Container {
    Container { name: container.name, resources: container.resources, ..Container::default() }
}

/// A pod of our own, or one of KMM's for our Modules. Nothing is read from the pods of agents and exporters, of which there is
/// one of each per node: agents speak for themselves, in their reports, and how many are ready their DaemonSets say.
pub fn own_pod(mut pod: Pod) -> Option<Pod> {
    let kinds = [ROLE_LABEL, WORKER_ACTION_LABEL, PULL_POD_LABEL];
    if !pod.labels().keys().any(|key| kinds.contains(&key.as_str())) {
        return None;
    }
    let unread = [Role::Agent, Role::MetricsExporter].map(Role::as_str);
    if pod.labels().get(ROLE_LABEL).is_some_and(|role| unread.contains(&role.as_str())) {
        return None;
    }
    bookkeeping(&mut pod);
    pod.spec = pod.spec.map(|spec| PodSpec {
        node_name: spec.node_name,
        containers: spec.containers.into_iter().map(image).collect(),
        ..PodSpec::default()
    });
    Some(pod)
}

fn image(container: Container) -> Container {
    Container { name: container.name, image: container.image, ..Container::default() }
}

/// A ConfigMap of ours without its text, which is written once and not read.
#[allow(clippy::unnecessary_wraps, reason = "the type of a filter")]
pub fn config_map(mut config_map: ConfigMap) -> Option<ConfigMap> {
    bookkeeping(&mut config_map);
    config_map.data = None;
    Some(config_map)
}

/// A DaemonSet of ours without its template, which is compared by generation and hash.
#[allow(clippy::unnecessary_wraps, reason = "the type of a filter")]
pub fn daemonset(mut daemonset: DaemonSet) -> Option<DaemonSet> {
    bookkeeping(&mut daemonset);
    daemonset.spec = None;
    Some(daemonset)
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}
