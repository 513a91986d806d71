//! What the DaemonSets of all operands have in common.

use std::collections::BTreeMap;

use cxi_api::names::{DRIVER_LABEL, ROLE_LABEL, Role};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
        core::v1::{
            EnvVar, EnvVarSource, HostPathVolumeSource, ObjectFieldSelector, PodSpec, PodTemplateSpec,
            ResourceRequirements, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use crate::render::{labels, pod_labels, short_hash};

/// Annotation with the hash of the DaemonSet as rendered.
pub const HASH_ANNOTATION: &str = "cxi.hpe.com/rendered";

/// A directory of the host.
#[derive(Clone, Copy, Debug)]
pub struct HostDirectory {
    /// Name of the volume.
    pub name: &'static str,
    /// Where the host has it.
    pub host: &'static str,
    /// Where the container sees it.
    pub container: &'static str,
    /// Whether it is only read.
    pub read_only: bool,
}

/// What differs.
pub struct Operand<'a> {
    /// CXIDriver.
    pub driver: &'a str,
    /// What its pods are for.
    pub role: Role,
    /// Name of the DaemonSet.
    pub name: String,
    /// Annotations of the DaemonSet.
    pub annotations: BTreeMap<String, String>,
    /// Its pods.
    pub pod: PodSpec,
}

/// The DaemonSet. It has no owner: whoever deletes a CXIDriver in the foreground would take the operands off all nodes before
/// their drivers are unloaded in order. The rollout deletes it.
///
/// Its metadata must never carry KMM's label `kmm.node.kubernetes.io/module.name`: KMM deletes DaemonSets that do.
pub fn daemonset(operand: Operand<'_>, namespace: &str) -> DaemonSet {
    let Operand { driver, role, name, annotations, pod } = operand;
    let pod_labels = pod_labels(driver, role);
    let selector: BTreeMap<String, String> = pod_labels
        .iter()
        .filter(|(key, _)| [ROLE_LABEL, DRIVER_LABEL].contains(&key.as_str()))
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
                metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(IntOrString::String("10%".to_owned())),
                    max_surge: None,
                }),
            }),
            ..DaemonSetSpec::default()
        }),
        status: None,
    };
    let rendered = serde_json::to_string(&daemonset).unwrap_or_default();
    let annotations = daemonset.metadata.annotations.get_or_insert_default();
    annotations.insert(HASH_ANNOTATION.to_owned(), short_hash(&[&rendered]));
    daemonset
}

/// Mounts of directories of the host.
pub fn mounts(directories: &[HostDirectory]) -> Vec<VolumeMount> {
    let mount = |directory: &HostDirectory| VolumeMount {
        name: directory.name.to_owned(),
        mount_path: directory.container.to_owned(),
        read_only: Some(directory.read_only),
        ..VolumeMount::default()
    };
    directories.iter().map(mount).collect()
}

/// The volumes that go with [`mounts`].
pub fn volumes(directories: &[HostDirectory]) -> Vec<Volume> {
    let volume = |directory: &HostDirectory| Volume {
        name: directory.name.to_owned(),
        host_path: Some(HostPathVolumeSource { path: directory.host.to_owned(), type_: None }),
        ..Volume::default()
    };
    directories.iter().map(volume).collect()
}

/// An environment variable.
pub fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), ..EnvVar::default() }
}

/// An environment variable with a field of the pod.
pub fn field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: path.to_owned(), ..ObjectFieldSelector::default() };
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    }
}

/// What a container asks for.
pub fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    let requests = [("cpu", cpu), ("memory", memory)];
    ResourceRequirements {
        requests: Some(requests.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned()))).collect()),
        ..ResourceRequirements::default()
    }
}
