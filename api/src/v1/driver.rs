//! `CXIDriver`: the driver stack that an administrator wants on the nodes it selects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    device_list::most_per_nic, driver_status::CXIDriverStatus, limits, names::EARLIER_IMAGES, plugin_rules,
    strategy::UpdateStrategy,
};

pub use crate::source::{
    Dkms, DkmsRepositories, GitReference, KernelMapping, Modprobe, Platform, RegistryTls, Sign, Source, SourceType,
};

/// A CXIDriver runs one release of the HPE Slingshot (CXI) driver stack on the nodes it selects, with the device plugin
/// that offers their NICs to pods. Editing spec.version upgrades the nodes one after the other: each is taken out of
/// service, emptied of pods that hold a NIC, moved to the new driver, verified, and given back.
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
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new(r"self.matches('^v?[0-9]+(\\.[0-9]+)*([-+_][0-9A-Za-z.+_-]*[0-9A-Za-z])?$')").message("version must be a driver release such as 13.0.0, v1.8.3, 2.0.1-shs12 or 13.1.0_20251209; it becomes part of image tags, which have no ~"))]
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

/// The kubelet device plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = plugin_rules::of_the_plugin()))]
pub struct DevicePlugin {
    /// Whether NICs are offered to pods.
    pub enabled: bool,
    /// Extended resource that pods request.
    #[schemars(schema_with = "plugin_rules::resource_name")]
    pub resource_name: String,
    /// Image of the device plugin. Default: the operator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::image")]
    pub image: Option<String>,
    /// shared: several pods share a NIC. exclusive: one pod per NIC.
    pub sharing_mode: SharingMode,
    /// Pods per NIC when sharingMode is shared.
    #[schemars(extend("x-kubernetes-validations" = plugin_rules::shared_capacity()))]
    pub shared_capacity: i32,
    /// Whether the device plugin gives NICs by CDI, together with the host's libfabric and libcxi. Otherwise it gives
    /// plain device nodes. A container runtime without CDI gives the device nodes in both cases.
    pub cdi: bool,
    /// Files and directories of the host that every container with a NIC gets too. Each has its own place in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "plugin_rules::extra_mounts")]
    pub extra_mounts: Vec<ExtraMount>,
    /// Names of further device nodes in /dev that every container with a NIC gets, where the host has them: kdreg2
    /// watches registered memory for libfabric, xpmem shares memory between the processes of a job. Do not name the
    /// NICs themselves (cxi0 …): containers get these anyway.
    #[schemars(schema_with = "plugin_rules::extra_devices")]
    pub extra_devices: Vec<String>,
    /// Which of the host's libraries containers with a NIC get.
    pub libraries: Libraries,
    /// Directory of the kubelets of the selected nodes, their `--root-dir`: k0s uses /var/lib/k0s/kubelet, MicroK8s
    /// /var/snap/microk8s/common/var/lib/kubelet. If a node has no such directory, the device plugin's pod does not
    /// start there. Default: /var/lib/kubelet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "plugin_rules::kubelet_root")]
    pub kubelet_root: Option<String>,
    /// Compute resources of the device plugin's pods.
    #[schemars(schema_with = "limits::resources")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// The host's libfabric and libcxi in containers with a NIC. They have to be of the driver's release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Libraries {
    /// Whether containers get the host's libraries. Otherwise each container image has to bring libraries that fit the
    /// driver.
    pub inject: bool,
    /// Directories of the host, below /usr or /opt, in which the device plugin looks for libfabric first. The first one
    /// that has it counts. {version} in a path stands for the release of the driver that is loaded on the node. With
    /// {version} the device plugin looks nowhere else, and containers have libfabric in /opt/cray/lib64.
    #[schemars(length(min = 1, max = 8), inner(length(max = 1024)), extend("x-kubernetes-validations" = [{"rule": "self.all(path, path.matches('^/(usr|opt)/[^:,[:cntrl:]]+$') && !path.contains('..'))", "message": "ofiRoot must be directories below /usr or /opt, without '..', ':', ',' and control characters"}, {"rule": "self.all(path, path.matches('^([^{}]|[{]version[}])*$'))", "message": "ofiRoot may have {version}, the release of the loaded driver, and no other braces"}]))]
    pub ofi_root: Vec<String>,
    /// The same for libcxi and libcxiutils. With {version} containers have them in /usr/lib64.
    #[schemars(length(min = 1, max = 8), inner(length(max = 1024)), extend("x-kubernetes-validations" = [{"rule": "self.all(path, path.matches('^/(usr|opt)/[^:,[:cntrl:]]+$') && !path.contains('..'))", "message": "cxiRoot must be directories below /usr or /opt, without '..', ':', ',' and control characters"}, {"rule": "self.all(path, path.matches('^([^{}]|[{]version[}])*$'))", "message": "cxiRoot may have {version}, the release of the loaded driver, and no other braces"}]))]
    pub cxi_root: Vec<String>,
}

/// A file or directory of the host in containers with a NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = plugin_rules::of_a_mount()))]
pub struct ExtraMount {
    /// Absolute path on the host.
    #[schemars(schema_with = "plugin_rules::host_path")]
    pub host_path: String,
    /// Absolute path in the container. Default: that on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "plugin_rules::container_path")]
    pub container_path: Option<String>,
    /// Whether containers may write there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writable: bool,
}

/// See [`DevicePlugin::sharing_mode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SharingMode {
    /// Several pods share a NIC.
    #[default]
    Shared,
    /// One pod per NIC.
    Exclusive,
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

impl Default for DevicePlugin {
    fn default() -> Self {
        Self {
            enabled: true,
            resource_name: crate::names::DEFAULT_RESOURCE.into(),
            image: None,
            sharing_mode: SharingMode::Shared,
            shared_capacity: 100,
            cdi: true,
            extra_mounts: Vec::new(),
            extra_devices: ["kdreg2", "xpmem"].map(str::to_owned).to_vec(),
            libraries: Libraries::default(),
            kubelet_root: None,
            resources: None,
        }
    }
}

impl Default for Libraries {
    fn default() -> Self {
        // Where HPE's packages put them.
        Self { inject: true, ofi_root: vec!["/opt/cray/lib64".into()], cxi_root: vec!["/usr/lib64".into()] }
    }
}

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

/// The image that a field names, unless it is one of the earlier operator's, which cannot work with this one.
pub fn own_image(named: Option<&String>) -> Option<&String> {
    named.filter(|image| !image.is_empty() && !image.starts_with(EARLIER_IMAGES))
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

    /// Whether its DaemonSet is for nodes with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let wanted = self.daemonset.iter().flat_map(|daemonset| &daemonset.node_selector);
        wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl DevicePlugin {
    /// How many ids each NIC of a node with `nics`, virtual functions included, has: as many as pods may share it, and not more than the
    /// kubelet takes of all together.
    pub fn ids_of_each(&self, nics: usize) -> i64 {
        match self.sharing_mode {
            SharingMode::Shared => i64::from(self.shared_capacity).min(most_per_nic(nics).get().into()),
            SharingMode::Exclusive => 1,
        }
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
}
