//! `CXIDriver`: the driver stack that an administrator wants on the nodes it selects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    driver_status::CXIDriverStatus, images::own_image, limits, revision::RevisionId, strategy::UpdateStrategy,
};

pub use crate::device_plugin::{DevicePlugin, ExtraMount, Libraries, SharingMode};
pub use crate::source::{
    Dkms, DkmsRepositories, GitReference, KernelMapping, Modprobe, Platform, RegistryTls, Sign, Source, SourceType,
};

/// A CXIDriver runs one release of the HPE Slingshot (CXI) driver stack on the nodes it selects, with the device plugin
/// that offers their NICs to pods. Editing spec.version upgrades the nodes, as many at a time as
/// `updateStrategy.maxUnavailable` allows: each is taken out of service, emptied of pods that hold a NIC, moved to the new driver, verified, and given back.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cxi.hpe.com",
    version = "v1",
    kind = "CXIDriver",
    plural = "cxidrivers",
    shortname = "cxid",
    category = "cxi",
    status = "CXIDriverStatus",
    derive = "PartialEq",
    doc = "A CXIDriver runs one release of the HPE Slingshot (CXI) driver stack on the nodes it selects. Editing spec.version upgrades them in order, without pulling a driver from under a running job.",
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "Driver release that every node was last verified on"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.version", description = "Driver release wanted"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.updated", description = "Nodes verified on the wanted revision"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.total", description = "Selected nodes"),
    printcolumn(name = "InFlight", type_ = "integer", json_path = ".status.updating", description = "Nodes being moved"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed", description = "Nodes on which the wanted revision failed"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "The most important condition in one word"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name must have at most 40 characters: it becomes part of node label keys")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::source::sources()))]
pub struct CXIDriverSpec {
    /// Driver release to run, such as 13.1.0. Editing it starts an ordered upgrade.
    #[schemars(schema_with = "limits::version")]
    pub version: String,

    /// Where the driver comes from.
    #[serde(default)]
    pub source: Source,

    /// Labels of the nodes to run the driver on.
    #[serde(default = "default_node_selector")]
    #[schemars(schema_with = "limits::node_selector")]
    pub node_selector: BTreeMap<String, String>,

    /// Tolerations of the operator's pods on those nodes. Default: everything is tolerated.
    #[serde(default = "tolerate_everything")]
    #[schemars(schema_with = "limits::tolerations")]
    pub tolerations: Vec<Toleration>,

    /// The kubelet device plugin that offers NICs to pods.
    #[serde(default)]
    pub device_plugin: DevicePlugin,

    /// The retry handler: the part of a NIC's reliable transport that runs outside the kernel.
    #[serde(default)]
    pub retry_handler: RetryHandler,

    /// The metrics exporter: link, health, retries and telemetry of the NICs for Prometheus.
    #[serde(default)]
    pub metrics_exporter: MetricsExporter,

    /// The node agent, which reports what is loaded and who holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,

    /// Stops the admission of further nodes; nodes in flight finish.
    #[serde(default)]
    pub paused: bool,

    /// How nodes move from one revision to the next.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,

    /// What must be true before any node is touched.
    #[serde(default)]
    pub preflight: Preflight,

    /// How many old revisions are kept for rollback besides those in use.
    #[serde(default = "default_history")]
    #[x_kube(validation = Rule::new("self >= 0").message("revisionHistoryLimit must be 0 or more"))]
    pub revision_history_limit: i32,
}

/// The retry handler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryHandler {
    /// Whether the operator runs a retry handler. When you switch it off, it stays on a node until no pod there holds a
    /// NIC.
    pub enabled: bool,
    /// daemonset: one pod per node runs a retry handler for each NIC, and leaves alone one that the host runs. sidecar:
    /// each pod that asks for a NIC gets one, in namespaces labelled slingshot.hpe.com/inject-sidecar=enabled. kernel,
    /// none: the operator runs none.
    pub mode: RetryHandlerMode,
    /// Image that holds HPE's retry handler, `cxi_rh`, and its libraries: the operator cannot bring it. Without an
    /// image the operator runs no retry handler, and a condition says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::image")]
    pub image: Option<String>,
    /// Settings of mode daemonset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemonset: Option<RetryHandlerDaemonSet>,
    /// Settings of mode sidecar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<RetryHandlerSidecar>,
}

/// See [`RetryHandler::mode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetryHandlerMode {
    /// One pod per node.
    #[default]
    Daemonset,
    /// In each pod that asks for a NIC.
    Sidecar,
    /// In the kernel.
    Kernel,
    /// Not at all.
    None,
}

/// Settings of the retry handler's DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryHandlerDaemonSet {
    /// Compute resources. A retry handler that runs out of memory leaves its NIC in an unknown state: be generous.
    #[schemars(schema_with = "limits::resources")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have besides those of spec.nodeSelector.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "limits::labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations instead of those of spec.tolerations. Default: spec.tolerations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "limits::tolerations")]
    pub tolerations: Vec<Toleration>,
}

/// Settings of the retry handler's sidecar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct RetryHandlerSidecar {
    /// Compute resources.
    #[schemars(schema_with = "limits::resources")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// The metrics exporter. It runs on every node that the CXIDriver owns, also during the node's upgrade: a missing
/// driver is a metric too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricsExporter {
    /// Whether metrics are served.
    pub enabled: bool,
    /// Its image. Default: that of the node agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::image")]
    pub image: Option<String>,
    /// TCP port on which metrics are served.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self >= 1 && self <= 65535", "message": "port must be from 1 to 65535"}]))]
    pub port: i32,
    /// Telemetry counters that the exporter serves, as patterns of names: * stands for any text, ? for one character,
    /// and `default` for the built-in list. A pattern after ! leaves counters out. The last pattern that fits a counter
    /// decides. Default: the built-in list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)), extend("x-kubernetes-validations" = [{"rule": "self.all(term, term.matches('^!?[a-z0-9_*?]+$'))", "message": "counters must be names with a-z, 0-9, _, * and ?, or `default`, with ! before what is left out"}]))]
    pub counters: Vec<String>,
    /// Serves HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<MetricsTls>,
    /// Compute resources.
    #[schemars(schema_with = "limits::resources")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// The certificate of the metrics exporter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsTls {
    /// Secret of type kubernetes.io/tls in the operator's namespace. The exporter takes up a renewed certificate
    /// without a restart.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("!format.dns1123Subdomain().validate(self).hasValue()").message("secretName must be the name of a Secret: lower-case letters, digits, '-' and '.'"))]
    pub secret_name: String,
}

/// The node agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Agent {
    /// Image of the node agent, also of the clean-up pods. Default: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::image")]
    pub image: Option<String>,
    /// Compute resources of the node agent's pods.
    #[schemars(schema_with = "limits::resources")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// What must be true before any node is touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Preflight {
    /// Whether KMM must have verified the images of the new revision for the kernels of all selected nodes before the
    /// first node is admitted. Otherwise only a node's own image must be there.
    pub required: bool,
}

// === defaults ===

impl Default for RetryHandler {
    fn default() -> Self {
        Self { enabled: true, mode: RetryHandlerMode::Daemonset, image: None, daemonset: None, sidecar: None }
    }
}

impl Default for MetricsExporter {
    fn default() -> Self {
        Self { enabled: true, image: None, port: 9090, counters: Vec::new(), tls: None, resources: None }
    }
}

impl Default for Preflight {
    fn default() -> Self {
        Self { required: true }
    }
}

fn default_node_selector() -> BTreeMap<String, String> {
    [("feature.node.kubernetes.io/pci-1590.present".to_owned(), "true".to_owned())].into()
}

fn tolerate_everything() -> Vec<Toleration> {
    vec![Toleration { operator: Some("Exists".into()), ..Toleration::default() }]
}

fn default_history() -> i32 {
    2
}

impl RetryHandler {
    /// Whether it runs in a pod on each node.
    pub fn runs_on_nodes(&self) -> bool {
        self.enabled && self.mode == RetryHandlerMode::Daemonset && self.has_image()
    }

    /// The image that runs in a pod on each node, if one does.
    pub fn image_on_nodes(&self) -> Option<&String> {
        own_image(self.image.as_ref()).filter(|_| self.runs_on_nodes())
    }

    /// Whether it runs in the pods that ask for a NIC.
    pub fn runs_in_pods(&self) -> bool {
        self.enabled && self.mode == RetryHandlerMode::Sidecar && self.has_image()
    }

    /// Whether it should be run by us and cannot be, because no image holds it.
    pub fn lacks_image(&self) -> bool {
        self.enabled
            && matches!(self.mode, RetryHandlerMode::Daemonset | RetryHandlerMode::Sidecar)
            && !self.has_image()
    }

    /// Whether the image can hold `cxi_rh`: those of the earlier operator do not.
    fn has_image(&self) -> bool {
        own_image(self.image.as_ref()).is_some()
    }
}

impl CXIDriverSpec {
    /// A spec with this version and every default.
    pub fn new(version: &str) -> Self {
        Self {
            version: version.into(),
            source: Source::default(),
            node_selector: default_node_selector(),
            tolerations: tolerate_everything(),
            device_plugin: DevicePlugin::default(),
            retry_handler: RetryHandler::default(),
            metrics_exporter: MetricsExporter::default(),
            agent: None,
            paused: false,
            update_strategy: UpdateStrategy::default(),
            preflight: Preflight::default(),
            revision_history_limit: default_history(),
        }
    }

    /// The revision of this spec of the CXIDriver `driver`. Two drivers with equal specs have different revisions, because each revision is one
    /// KMM Module with its own selector. Fields that do not change what is loaded do not count.
    pub fn revision(&self, driver: &str) -> RevisionId {
        let source = &self.source;
        // Written out field by field: adding a field to the API must not silently rename every revision in the world.
        let mut content = vec![serde_json::json!([
            driver,
            self.version,
            source.kind,
            source.image,
            source.kernel_mappings,
            source.repository,
            source.dkms,
            source.prebuilt_cache,
            source.registry_tls,
            source.modprobe,
        ])];
        // What came later counts where it is set, so that revisions without it keep their names.
        let later = [
            source.repository_sha256.as_ref().map(|sum| serde_json::json!({ "repositorySHA256": sum })),
            source.builder_image.as_ref().map(|image| serde_json::json!({ "builderImage": image })),
            source.sign.as_ref().map(|sign| serde_json::json!({ "sign": sign })),
        ];
        content.extend(later.into_iter().flatten());
        let texts: Vec<String> = content.iter().map(ToString::to_string).collect();
        let digest = Sha256::digest(texts.concat());
        let [a, b, c, d, ..] = digest[..] else { unreachable!("a SHA-256 digest has 32 bytes") };
        RevisionId::from(u32::from_be_bytes([a, b, c, d]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::layout::{LAYOUT_KEY, LayoutReference};

    #[test]
    fn what_decides_what_is_loaded_makes_another_revision_and_nothing_else_does() {
        let spec = |change: &dyn Fn(&mut CXIDriverSpec)| {
            let mut spec = CXIDriverSpec::new("13.0.0");
            change(&mut spec);
            spec.revision("cxi")
        };
        let plain = spec(&|_| ());
        // As revisions in clusters are called already.
        assert_eq!(plain.as_str(), "aed41fd9");
        let others: Vec<RevisionId> = vec![
            spec(&|spec| spec.version = "13.1.0".to_owned()),
            spec(&|spec| spec.source.kind = SourceType::Prebuilt),
            spec(&|spec| {
                let layout = LayoutReference { name: "stack".to_owned(), key: LAYOUT_KEY.to_owned() };
                spec.source.dkms = Some(Dkms { layout: Some(layout), ..Dkms::default() });
            }),
            spec(&|spec| {
                let layout = LayoutReference { name: "another".to_owned(), key: LAYOUT_KEY.to_owned() };
                spec.source.dkms = Some(Dkms { layout: Some(layout), ..Dkms::default() });
            }),
            spec(&|spec| spec.source.repository_sha256 = Some("0".repeat(64))),
            spec(&|spec| spec.source.builder_image = Some("0".repeat(64))),
            spec(&|spec| spec.source.sign = Some(Sign { key_secret: Some("k".into()), cert_secret: Some("c".into()) })),
        ];
        for (at, one) in others.iter().enumerate() {
            assert!(*one != plain && !others[..at].contains(one), "{at}");
        }
        assert_eq!(spec(&|spec| spec.source.build_secrets = vec!["netrc".to_owned()]), plain);
        assert_eq!(spec(&|spec| spec.paused = true), plain);
    }

    #[test]
    fn names_of_revisions_in_clusters_stay() {
        let revision = |text: &str| {
            let spec: CXIDriverSpec = serde_saphyr::from_str(text).unwrap();
            spec.revision("cxi").to_string()
        };
        let cases = [
            ("version: 13.0.0", "aed41fd9"),
            (include_str!("../../fixtures/revision.yaml"), "6183485f"),
            (include_str!("../../fixtures/every-field.yaml"), "34ef81f1"),
            // Blocks in which only defaults stand, as the API server completes them.
            ("{version: 13.0.0, source: {dkms: {}, registryTLS: {}, modprobe: {}}}", "fffdafe8"),
            (
                "{version: 13.0.0, source: {type: prebuilt, image: r/x, kernelMappings: [{literal: '6.1', image: 'r/y:1'}]}}",
                "68015cbc",
            ),
        ];
        let names: Vec<_> = cases.iter().map(|(spec, _)| revision(spec)).collect();
        assert_eq!(names, cases.map(|(_, name)| name));
    }

    /// Every place of a value, as a path.
    fn places(prefix: &str, value: &serde_json::Value, found: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| places(&format!("{prefix}.{name}"), value, found));
            }
            serde_json::Value::Array(values) => {
                values.iter().enumerate().for_each(|(at, value)| places(&format!("{prefix}[{at}]"), value, found));
            }
            _ => drop(found.insert(prefix.to_owned())),
        }
    }

    /// Otherwise the golden revision of every field would be one of a few.
    #[test]
    fn no_field_of_the_full_spec_is_dropped_when_it_is_read() {
        let text = include_str!("../../fixtures/every-field.yaml");
        let spec: CXIDriverSpec = serde_saphyr::from_str(text).unwrap();
        let (given, read): (serde_json::Value, _) =
            (serde_saphyr::from_str(text).unwrap(), serde_json::to_value(&spec).unwrap());
        let [mut before, mut after] = [BTreeSet::new(), BTreeSet::new()];
        places("", &given, &mut before);
        places("", &read, &mut after);
        let dropped: Vec<_> = before.difference(&after).collect();
        assert!(dropped.is_empty(), "{dropped:?}");
    }
}
