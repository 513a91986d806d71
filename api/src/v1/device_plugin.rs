//! `CXIDriver.spec.devicePlugin`: how NICs are offered to pods, and what comes with them.

use k8s_openapi::api::core::v1::ResourceRequirements;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{device_list::most_per_nic, limits, plugin_rules};
use crate::names::DEFAULT_RESOURCE;

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
    #[schemars(schema_with = "extra_mounts")]
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

fn extra_mounts(generator: &mut SchemaGenerator) -> Schema {
    plugin_rules::extra_mounts(Vec::<ExtraMount>::json_schema(generator))
}

impl Default for DevicePlugin {
    fn default() -> Self {
        Self {
            enabled: true,
            resource_name: DEFAULT_RESOURCE.into(),
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

impl DevicePlugin {
    /// How many ids each NIC of a node with `nics`, virtual functions included, has: as many as pods may share it, and not more than the
    /// kubelet takes of all together.
    pub fn ids_of_each(&self, nics: usize) -> i64 {
        match self.sharing_mode {
            SharingMode::Shared => i64::from(self.shared_capacity).min(most_per_nic(nics).get().into()),
            SharingMode::Exclusive => 1,
        }
    }

    /// Everything that is wrong with it, each with the name of its field: of an object that was stored before the CRD had the rule.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut add = |field: &str, broken: Option<&str>| {
            faults.extend(broken.map(|message| format!("devicePlugin.{field} {message}")));
        };
        add("resourceName", plugin_rules::broken(plugin_rules::RESOURCE_NAME, &self.resource_name));
        for (number, mount) in self.extra_mounts.iter().enumerate() {
            add(&format!("extraMounts[{number}].hostPath"), plugin_rules::broken(plugin_rules::PATH, &mount.host_path));
            let container =
                mount.container_path.as_deref().and_then(|path| plugin_rules::broken(plugin_rules::PATH, path));
            add(&format!("extraMounts[{number}].containerPath"), container);
            add(&format!("extraMounts[{number}]"), plugin_rules::broken(plugin_rules::PLACE, mount.place()));
        }
        let places: Vec<String> = self.extra_mounts.iter().map(|mount| mount.place().to_owned()).collect();
        add("extraMounts", plugin_rules::broken(plugin_rules::PLACES, &places));
        add("extraMounts", plugin_rules::at_a_device(&places, &self.extra_devices));
        add("extraDevices", plugin_rules::broken(plugin_rules::DEVICES, &self.extra_devices));
        add(
            "kubeletRoot",
            self.kubelet_root.as_deref().and_then(|root| plugin_rules::broken(plugin_rules::KUBELET_ROOT, root)),
        );
        faults
    }
}

impl ExtraMount {
    /// Where it is in the container.
    pub fn place(&self) -> &str {
        self.container_path.as_deref().unwrap_or(&self.host_path)
    }
}
