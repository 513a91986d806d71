//! What the DaemonSets of all operands have in common.

use std::collections::BTreeMap;

use cxi_api::names::{DRIVER_LABEL, RENDERED_ANNOTATION, ROLE_LABEL, Role};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
        core::v1::{
            Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PodTemplateSpec,
            ResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use crate::labels::{labels, pod_labels, short_hash};

/// What differs.
pub struct Wanted<'a> {
    /// CXIDriver.
    pub driver: &'a str,
    /// What its pods are for.
    pub role: Role,
    /// Which of several with this role it is: a label of its pods and its value.
    pub instance: Option<(&'static str, String)>,
    /// Name of the DaemonSet.
    pub name: String,
    /// Annotations of the DaemonSet.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of its pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// Whether a pod stays as it is until something else deletes it, whatever becomes of its template.
    pub on_delete: bool,
    /// Its pods.
    pub pod: PodSpec,
}

/// The DaemonSet. It has no owner: with one, a foreground deletion of a CXIDriver would take the operands off all nodes
/// before their drivers are unloaded in order. The rollout deletes it.
///
/// Its metadata must never carry KMM's label `kmm.node.kubernetes.io/module.name`: KMM deletes DaemonSets that do.
pub fn daemonset(wanted: Wanted<'_>, namespace: &str) -> DaemonSet {
    let Wanted { driver, role, instance, name, annotations, pod_annotations, on_delete, pod } = wanted;
    let mut pod_labels = pod_labels(driver, role);
    let instance_label = instance.as_ref().map_or(ROLE_LABEL, |(label, _)| *label);
    pod_labels.extend(instance.map(|(label, value)| (label.to_owned(), value)));
    let selector: BTreeMap<String, String> = pod_labels
        .iter()
        .filter(|(key, _)| [ROLE_LABEL, DRIVER_LABEL, instance_label].contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut metadata_labels = labels(driver);
    metadata_labels.insert(ROLE_LABEL.to_owned(), role.as_str().to_owned());
    let mut daemonset = DaemonSet {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            labels: Some(metadata_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(DaemonSetSpec {
            selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    annotations: (!pod_annotations.is_empty()).then_some(pod_annotations),
                    labels: Some(pod_labels),
                    ..ObjectMeta::default()
                }),
                // Nothing of ours finds Services by variables, and other packages have Services in this namespace.
                spec: Some(PodSpec { enable_service_links: Some(false), ..pod }),
            },
            update_strategy: Some(if on_delete {
                DaemonSetUpdateStrategy { type_: Some("OnDelete".to_owned()), rolling_update: None }
            } else {
                DaemonSetUpdateStrategy {
                    type_: Some("RollingUpdate".to_owned()),
                    rolling_update: Some(RollingUpdateDaemonSet {
                        max_unavailable: Some(IntOrString::String("10%".to_owned())),
                        max_surge: None,
                    }),
                }
            }),
            ..DaemonSetSpec::default()
        }),
        status: None,
    };
    hash(&mut daemonset);
    daemonset
}

fn hash(daemonset: &mut DaemonSet) {
    let annotations = daemonset.metadata.annotations.get_or_insert_default();
    annotations.remove(RENDERED_ANNOTATION);
    let rendered = serde_json::to_string(&daemonset).unwrap_or_default();
    let annotations = daemonset.metadata.annotations.get_or_insert_default();
    annotations.insert(RENDERED_ANNOTATION.to_owned(), short_hash(&[&rendered]));
}

/// Lets a DaemonSet replace its pods on nodes that live while others are down: its controller counts the pods of these among those that
/// may be unavailable (`pkg/controller/daemon/update.go`), for ever, and would replace none.
pub fn tolerate(daemonset: &mut DaemonSet, nodes: usize, down: usize) {
    let strategy = daemonset.spec.as_mut().and_then(|spec| spec.update_strategy.as_mut());
    if let Some(rolling) = strategy.and_then(|strategy| strategy.rolling_update.as_mut()) {
        rolling.max_unavailable = Some(max_unavailable(nodes, down));
        hash(daemonset);
    }
}

/// A tenth of the nodes, at least one, and beside them those that are down. Their number is rounded up to whole fiftieths of all nodes, so
/// that a large cluster, in which some node always comes or goes, does not have its DaemonSets written again for each.
fn max_unavailable(nodes: usize, down: usize) -> IntOrString {
    if down == 0 {
        return IntOrString::String("10%".to_owned());
    }
    let step = nodes.div_ceil(50).max(1);
    let all = down.div_ceil(step) * step + nodes.div_ceil(10);
    IntOrString::Int(i32::try_from(all.min(nodes)).unwrap_or(i32::MAX))
}

/// Only nodes that carry this label, whatever its value: the gate of an operand.
pub fn gate(label: String) -> Affinity {
    affinity(NodeSelectorRequirement { key: label, operator: "Exists".to_owned(), values: None })
}

/// Only nodes that carry this label with this value.
pub fn gate_with(label: String, value: String) -> Affinity {
    affinity(NodeSelectorRequirement { key: label, operator: "In".to_owned(), values: Some(vec![value]) })
}

fn affinity(requirement: NodeSelectorRequirement) -> Affinity {
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector { node_selector_terms: vec![term] }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// What a container asks for. The device plugin and the node agent ask for nothing unless a CXIDriver says so: their pods go and
/// come back while nodes are full, and with their priority the scheduler would end a pod without a NIC to make room for them.
pub fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    let requests = [("cpu", cpu), ("memory", memory)];
    ResourceRequirements {
        requests: Some(requests.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned()))).collect()),
        ..ResourceRequirements::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_are_down_keep_no_other_from_a_new_pod() {
        let tenth = IntOrString::String("10%".to_owned());
        for (nodes, down, expected) in [
            (0, 0, tenth.clone()),
            (5000, 0, tenth),
            (6, 1, IntOrString::Int(2)),
            (6, 5, IntOrString::Int(6)),
            (1, 1, IntOrString::Int(1)),
            (50, 7, IntOrString::Int(12)),
            (5000, 1, IntOrString::Int(600)),
            (5000, 100, IntOrString::Int(600)),
            (5000, 101, IntOrString::Int(700)),
        ] {
            assert_eq!(max_unavailable(nodes, down), expected, "{down} of {nodes}");
        }
    }
}
