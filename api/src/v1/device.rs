//! `CXIDevice`: the inventory of one NIC, written by the agent of its node and owned by the node's CXINode.

#![allow(clippy::duplicated_attributes, reason = "each printer column repeats the word type_")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Timestamp;
use crate::node_report::Link;

/// Label of a CXIDevice: the node it is on, as [`node_label_value`] writes it.
pub const NODE_LABEL: &str = "cxi.hpe.com/node";

/// Label of a CXIDevice: its device name.
pub const DEVICE_LABEL: &str = "cxi.hpe.com/device";

/// A CXIDevice has no settings; it exists while the driver has the NIC bound.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cxi.hpe.com",
    version = "v1",
    kind = "CXIDevice",
    plural = "cxidevices",
    shortname = "cxidev",
    category = "cxi",
    status = "CXIDeviceStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A CXIDevice shows one NIC of a node: where it is, its link, its identity in the fabric, its firmware, and whether pods can use it.",
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node", description = "Node that has the NIC"),
    printcolumn(name = "Device", type_ = "string", json_path = ".status.device", description = "Device name"),
    printcolumn(name = "NUMA", type_ = "integer", json_path = ".status.numaNode", description = "NUMA node"),
    printcolumn(name = "Link", type_ = "string", json_path = ".status.linkState", description = "State of the link"),
    printcolumn(
        name = "Speed",
        type_ = "integer",
        json_path = ".status.linkSpeedGbps",
        description = "Speed the link runs at in Gb/s"
    ),
    printcolumn(
        name = "Health",
        type_ = "string",
        json_path = ".status.health.status",
        description = "Whether pods can use the NIC"
    ),
    printcolumn(name = "NID", type_ = "integer", json_path = ".status.nid", description = "Address in the fabric"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct CXIDeviceSpec {}

/// What the agent sees of a NIC. A field that is absent could not be read or does not exist for this NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CXIDeviceStatus {
    /// Node that has the NIC.
    pub node: String,
    /// Device name, such as cxi0. The number is not stable across driver loads.
    pub device: String,
    /// PCI address, such as 0000:21:00.0: the key of the NIC on its node.
    pub pci_address: String,
    /// PCI vendor and device id, such as 1590:0371.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
    /// Generation of the NIC: 1 or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cassini_generation: Option<i32>,
    /// Physical or virtual function.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<Function>,
    /// How many virtual functions the NIC can have.
    #[serde(rename = "totalVFs", default, skip_serializing_if = "Option::is_none")]
    pub total_vfs: Option<i32>,
    /// NUMA node that the NIC is attached to; absent where the platform names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<i32>,
    /// State of the link.
    pub link_state: Link,
    /// Speed the link runs at in Gb/s; absent while it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_speed_gbps: Option<i32>,
    /// Address in the fabric (20 bits; newer drivers number virtual functions in the bits above). Absent until it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nid: Option<i64>,
    /// Network interface; absent while it is in another network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netdev: Option<String>,
    /// Address of the network interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// MTU of the network interface in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i32>,
    /// Firmware versions by the driver's names for them, such as `qspi_blob_version`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub firmware: BTreeMap<String, String>,
    /// Driver release that runs the NIC; absent when the loaded modules are not known to belong to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// The NIC's retry handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_handler: Option<RetryHandler>,
    /// The NIC's CXI services, up to a minute ago. Absent where the driver's debugfs does not show them, and while the driver may
    /// be unloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Services>,
    /// Whether pods can use the NIC.
    pub health: Health,
}

/// Kind of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Physical function.
    Pf,
    /// Virtual function.
    Vf,
}

/// The CXI services of a NIC: who may use which VNIs on it, and how much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Services {
    /// How many there are, the driver's default service among them.
    pub total: i32,
    /// How many of them have something allocated.
    pub in_use: i32,
    /// How many of them are enabled; absent where the driver does not say, as in 12.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<i32>,
    /// The driver's default service. While it is enabled, every pod that has the NIC can use its VNIs, so these VNIs
    /// isolate no pods from each other. Absent where the driver does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<DefaultService>,
}

/// Whether the driver's default service lets in everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DefaultService {
    /// It lets in everybody.
    Enabled,
    /// No program can use it.
    Disabled,
}

/// The retry handler of a NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryHandler {
    /// Whether one is attached, no matter which program runs it.
    pub enabled: bool,
    /// Who runs it; absent where no program on the node looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RetryHandlerPolicy>,
    /// How it stands; absent where no program on the node looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RetryHandlerState>,
    /// Since when it stands so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Status with which it ended, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal by which it ended, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it stands so, with the last lines of one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it counted since it started, up to five minutes ago; the metrics have it as of now. Absent where it serves
    /// no statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<RetryHandlerStats>,
}

/// Who runs the retry handler of a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetryHandlerPolicy {
    /// The operator's pod on the node.
    Daemonset,
    /// A program of the host: its service manager, usually.
    Host,
}

/// How a retry handler stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryHandlerState {
    /// It is being started.
    Starting,
    /// It is attached to the NIC.
    Running,
    /// It was asked to end and has not yet.
    Stopping,
    /// It ended unasked. The state of the NIC is unknown, and no other is started until an administrator says so.
    Failed,
}

/// What a retry handler counted since it started. Each count is a number of 32 bits that starts again at 0 after the last;
/// one that the handler does not have, or that cannot be read, is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryHandlerStats {
    /// Packets that were tried again: `timeoutRetries` and `nackRetries`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_retries: Option<i64>,
    /// Packets without an answer in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_retries: Option<i64>,
    /// Packets that the other side could not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nack_retries: Option<i64>,
    /// Packets that were given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_packets: Option<i64>,
    /// Connections that were given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_connections: Option<i64>,
    /// Fabric addresses that nothing is sent to at present, because they do not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_nids: Option<i32>,
}

/// Whether pods can use a NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// In one word.
    pub status: HealthStatus,
    /// Why it is not `Healthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Health of a NIC in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HealthStatus {
    /// The link is up and the device is there.
    Healthy,
    /// Pods can use it, and something about it cannot be read.
    Degraded,
    /// Pods cannot use it.
    Unhealthy,
    /// It cannot be told.
    Unknown,
}

/// Name of the CXIDevice of `device` on `node`.
pub fn device_name(node: &str, device: &str) -> String {
    format!("{node}-{device}")
}

/// Value of [`NODE_LABEL`] for `node`. Node names may be longer than label values; a longer one is cut and its hash
/// (40 bits of SHA-256) put behind.
pub fn node_label_value(node: &str) -> String {
    const LONGEST: usize = 63;
    const KEPT: usize = 52;
    if node.len() <= LONGEST {
        return node.to_owned();
    }
    let hash = Sha256::digest(node.as_bytes());
    let hash = hash.iter().take(5).fold(0_u64, |hash, byte| (hash << 8) | u64::from(*byte));
    // Node names are ASCII; anything else is no node's name, and any cut is as good.
    let kept = node.get(..KEPT).unwrap_or_default();
    format!("{kept}-{hash:010x}")
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;
    use serde_json::json;

    use super::*;

    fn status() -> CXIDeviceStatus {
        CXIDeviceStatus {
            node: "n1".into(),
            device: "cxi0".into(),
            pci_address: "0000:21:00.0".into(),
            pci_id: None,
            cassini_generation: None,
            type_: Some(Function::Pf),
            total_vfs: None,
            numa_node: Some(0),
            link_state: Link::Up,
            link_speed_gbps: None,
            nid: Some(0),
            netdev: None,
            mac: None,
            mtu: None,
            firmware: BTreeMap::new(),
            driver_version: None,
            retry_handler: Some(RetryHandler::default()),
            services: None,
            health: Health { status: HealthStatus::Healthy, message: None },
        }
    }

    #[test]
    fn zero_is_a_value_and_the_unknown_is_absent() {
        let written = serde_json::to_value(status()).unwrap();
        assert_eq!(
            written,
            json!({
                "node": "n1", "device": "cxi0", "pciAddress": "0000:21:00.0", "type": "pf", "numaNode": 0, "nid": 0,
                "linkState": "up", "retryHandler": {"enabled": false}, "health": {"status": "Healthy"},
            })
        );
        assert_eq!(serde_json::from_value::<CXIDeviceStatus>(written).unwrap(), status());
    }

    #[test]
    fn columns_show_fields_that_exist() {
        let crd = serde_json::to_value(CXIDevice::crd()).unwrap();
        let version = &crd["spec"]["versions"][0];
        let fields = &version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        let names: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["Node", "Device", "NUMA", "Link", "Speed", "Health", "NID", "Age"]);
        for column in columns {
            let path = column["jsonPath"].as_str().unwrap();
            let Some(path) = path.strip_prefix(".status.") else { continue };
            let pointer = format!("/{}", path.replace('.', "/properties/"));
            let found = fields.pointer(&pointer).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(found["type"].as_str().unwrap_or("string"), column["type"].as_str().unwrap(), "{path}");
        }
        assert_eq!(fields["nid"]["format"], "int64");
    }

    #[test]
    fn node_labels_are_legal_and_distinct() {
        assert_eq!(node_label_value("n1.example"), "n1.example");
        let long = format!("{}.example", "a".repeat(70));
        let longer = format!("{}.example.org", "a".repeat(70));
        assert_eq!(node_label_value(&long).len(), 63);
        assert_ne!(node_label_value(&long), node_label_value(&longer));
        assert_eq!(device_name("n1", "cxi0"), "n1-cxi0");
    }
}
