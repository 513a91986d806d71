//! The device plugin's DaemonSet. Its pods run exactly on the nodes whose gate label is set.

use std::collections::BTreeMap;

use cxi_api::{
    CXIDriverSpec,
    driver::SharingMode,
    names::{DRIVER_LABEL, ROLE_LABEL, Role, device_plugin_daemonset, device_plugin_gate},
};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
        core::v1::{
            Affinity, Container, EnvVar, EnvVarSource, HostPathVolumeSource, NodeAffinity, NodeSelector,
            NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector, PodSpec, PodTemplateSpec,
            ResourceRequirements, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use crate::render::{Images, labels, pod_labels, short_hash};

/// Annotation with the hash of the DaemonSet as rendered.
pub const HASH_ANNOTATION: &str = "cxi.hpe.com/rendered";

/// Annotation with the resource that the pods offer.
pub const RESOURCE_ANNOTATION: &str = "cxi.hpe.com/resource";

/// Directories of the host that the plugin needs: name, path, whether it only reads.
const HOST: [(&str, &str, bool); 4] = [
    ("device-plugins", "/var/lib/kubelet/device-plugins", false),
    ("pod-resources", "/var/lib/kubelet/pod-resources", true),
    ("sys", "/sys", true),
    ("dev", "/dev", true),
];

/// The DaemonSet, or nothing when the device plugin is disabled.
///
/// Its metadata must never carry KMM's label `kmm.node.kubernetes.io/module.name`: KMM deletes DaemonSets that do.
pub fn device_plugin(driver: &str, spec: &CXIDriverSpec, namespace: &str, images: &Images) -> Option<DaemonSet> {
    let plugin = &spec.device_plugin;
    if !plugin.enabled {
        return None;
    }
    let name = device_plugin_daemonset(driver);
    let pod_labels = pod_labels(driver, Role::DevicePlugin);
    let selector: BTreeMap<String, String> = pod_labels
        .iter()
        .filter(|(key, _)| [ROLE_LABEL, DRIVER_LABEL].contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut metadata_labels = labels(driver);
    metadata_labels.insert(ROLE_LABEL.to_owned(), Role::DevicePlugin.as_str().to_owned());
    let mut daemonset = DaemonSet {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            labels: Some(metadata_labels),
            annotations: Some([(RESOURCE_ANNOTATION.to_owned(), plugin.resource_name.clone())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(DaemonSetSpec {
            selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
                spec: Some(pod(driver, spec, images)),
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
    Some(daemonset)
}

fn pod(driver: &str, spec: &CXIDriverSpec, images: &Images) -> PodSpec {
    let plugin = &spec.device_plugin;
    let image = plugin.image.clone().unwrap_or_else(|| images.device_plugin.clone());
    let mounts = HOST.iter().map(|(name, path, read_only)| VolumeMount {
        name: (*name).to_owned(),
        mount_path: (*path).to_owned(),
        read_only: Some(*read_only),
        ..VolumeMount::default()
    });
    let volumes = HOST.iter().map(|(name, path, _)| Volume {
        name: (*name).to_owned(),
        host_path: Some(HostPathVolumeSource { path: (*path).to_owned(), type_: None }),
        ..Volume::default()
    });
    PodSpec {
        affinity: Some(gate(driver)),
        containers: vec![Container {
            name: "device-plugin".to_owned(),
            image: Some(image),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            env: Some(environment(spec)),
            resources: Some(plugin.resources.clone().unwrap_or_else(default_resources)),
            // The kubelet's directories belong to root.
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(super::one_shot::no_capabilities()),
                read_only_root_filesystem: Some(true),
                run_as_user: Some(0),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(mounts.collect()),
            ..Container::default()
        }],
        priority_class_name: Some("system-node-critical".to_owned()),
        service_account_name: Some("cxi-device-plugin".to_owned()),
        tolerations: Some(spec.tolerations.clone()),
        volumes: Some(volumes.collect()),
        ..PodSpec::default()
    }
}

fn environment(spec: &CXIDriverSpec) -> Vec<EnvVar> {
    let plugin = &spec.device_plugin;
    let mode = match plugin.sharing_mode {
        SharingMode::Shared => "shared",
        SharingMode::Exclusive => "exclusive",
    };
    let set = |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() };
    let node = EnvVar {
        name: "NODE_NAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "spec.nodeName".to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    vec![
        node,
        set("CXI_RESOURCE_NAME", plugin.resource_name.clone()),
        set("CXI_SHARING_MODE", mode.to_owned()),
        set("CXI_SHARED_CAPACITY", plugin.shared_capacity.to_string()),
    ]
}

/// Only nodes whose gate is open.
fn gate(driver: &str) -> Affinity {
    let requirement =
        NodeSelectorRequirement { key: device_plugin_gate(driver), operator: "Exists".to_owned(), values: None };
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector { node_selector_terms: vec![term] }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn default_resources() -> ResourceRequirements {
    let requests = [("cpu", "10m"), ("memory", "32Mi")];
    ResourceRequirements {
        requests: Some(requests.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned()))).collect()),
        ..ResourceRequirements::default()
    }
}
