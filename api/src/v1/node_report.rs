//! What the node agent sees on its node: the evidence that the rollout asks for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{KernelModule, Timestamp};

/// The most NICs that a report names, virtual functions included. Where there are so many, there may be more.
pub const MAX_NICS: usize = 512;

/// `CXINode.status.node`, written by the agent of that node (field manager `cxi-agent`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// `uname -r`.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`: differs after each boot.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// When the agent looked, by the node's clock. For people; the operator orders reports by `sequence`.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub observed_at: Timestamp,
    /// Grows by at least one with each report of this node.
    pub sequence: i64,
    /// `status.rollout.since` as the agent read it before it looked. A report answers the phase that it acknowledges: this,
    /// not a comparison of clocks, is what makes a report newer than a phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub acknowledged: Option<Timestamp>,
    /// Loaded modules of the CXI stack, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<LoadedModule>,
    /// The driver release that the build-ids stand for; absent when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// Open files of `/dev/cxi*`; of each pod one for each device, and of processes outside Kubernetes the first 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_files: Vec<OpenFile>,
    /// NICs bound to the driver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Nic>,
    /// The last warnings of the kernel about the CXI stack, while its driver does not come up or a link is down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_messages: Vec<String>,
}

/// A loaded kernel module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadedModule {
    /// Name as in `/sys/module` (underscores).
    pub name: String,
    /// GNU build-id, lower-case hexadecimal; empty when the kernel does not show it.
    #[serde(rename = "buildID", default, skip_serializing_if = "String::is_empty")]
    pub build_id: String,
    /// Reference count as in `/proc/modules`.
    #[serde(default)]
    pub refcount: i32,
    /// Modules that use this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<String>,
}

/// A process that has a CXI device open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenFile {
    /// Device name, such as `cxi0`.
    pub device: String,
    /// Process id on the host.
    pub pid: i32,
    /// The process's command name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// UID of the pod that the process belongs to; absent for a process outside Kubernetes.
    #[serde(rename = "podUID", default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

/// A NIC that the driver has bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// Device name, such as `cxi0`; the number is not stable across driver loads.
    pub name: String,
    /// PCI address, such as `0000:21:00.0`: the key.
    pub pci_address: String,
    /// Whether the link is up.
    pub link: Link,
    /// Whether it is a virtual function. Inside a virtual machine nothing tells the link of one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub virtual_function: bool,
    /// How the NIC's retry handler ended unasked, in one line; absent while none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_handler_failed: Option<String>,
}

/// State of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// Carries traffic.
    Up,
    /// Does not.
    Down,
    /// Cannot be read.
    Unknown,
}

/// What every loaded driver has at least: the NICs, and their devices for programs.
const LEAST_DRIVER: [KernelModule; 2] = [KernelModule::NICS, KernelModule::CHARACTER_DEVICES];

impl Nic {
    /// Whether the link is up, as far as anything can tell: a virtual function in a virtual machine never shows it.
    pub fn is_linked(&self) -> bool {
        self.link == Link::Up || self.virtual_function && self.link == Link::Unknown
    }
}

impl NodeReport {
    /// Which of the modules that bind the NICs and make their devices are not loaded: with none missing, a driver is there.
    pub fn missing_modules(&self) -> Vec<&'static str> {
        let loaded = |name: &&str| self.modules.iter().any(|module| module.name == **name);
        KernelModule::names(LEAST_DRIVER).into_iter().filter(|name| !loaded(name)).collect()
    }

    /// Build-id by module name, of the modules that show one.
    pub fn build_ids(&self) -> BTreeMap<String, String> {
        self.modules.iter().map(|m| (m.name.clone(), m.build_id.clone())).collect()
    }
}
