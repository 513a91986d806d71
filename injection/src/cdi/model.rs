//! The part of a CDI specification that NICs need, as it is written to the file.

use serde::{Deserialize, Serialize};

/// One file: the devices of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Version of the specification that a reader has to know.
    pub cdi_version: String,
    /// `vendor/class`.
    pub kind: String,
    /// The devices, at least one.
    pub devices: Vec<Device>,
    /// Applied once to each container that gets any of the devices.
    #[serde(default, skip_serializing_if = "ContainerEdits::is_empty")]
    pub container_edits: ContainerEdits,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// The name, unique in its kind. Its full form is `vendor/class=name`.
    pub name: String,
    /// What a container gets with it; not empty.
    pub container_edits: ContainerEdits,
}

/// Changes to a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerEdits {
    /// `NAME=value`; replaces what image and user say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<DeviceNode>,
    /// Files and directories of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
}

impl ContainerEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.env.is_empty() && self.device_nodes.is_empty() && self.mounts.is_empty()
    }
}

/// A device node. Type and numbers are left out: the runtime takes them from the host's node at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    /// Where it is in the container.
    pub path: String,
    /// Where it is on the host, if elsewhere (since 0.5.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Of `r`, `w` and `m` (mknod).
    pub permissions: String,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Where it is on the host.
    pub host_path: String,
    /// Where it is in the container.
    pub container_path: String,
    /// Options of mount(8).
    pub options: Vec<String>,
}

impl Spec {
    /// The lowest version of the specification that has all that is used here. A runtime refuses a file of a version
    /// that it does not know.
    pub fn lowest_version(&self) -> &'static str {
        let edits = self.devices.iter().map(|device| &device.container_edits).chain([&self.container_edits]);
        let digits = self.devices.iter().any(|device| device.name.starts_with(|first: char| first.is_ascii_digit()));
        let host_paths = edits.flat_map(|edits| &edits.device_nodes).any(|node| node.host_path.is_some());
        // 0.5.0 brought both; all the rest is in the oldest version that runtimes still read.
        if digits || host_paths { "0.5.0" } else { "0.3.0" }
    }
}
