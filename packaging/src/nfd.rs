//! The rule by which Node Feature Discovery labels the nodes that a CXIDriver selects by default.
//!
//! Its own labels are of no help: by default it labels displays and accelerators, not network controllers, and those by class and
//! vendor only.

use cxi_api::CXIDriverSpec;
use cxi_hardware::PciId;
use serde_json::{Value, json};

/// What counts as a NIC. A node may have nothing but virtual functions, as a virtual machine has.
const NICS: [PciId; 3] = [PciId::CASSINI_1, PciId::CASSINI_2, PciId::CASSINI_2_VF];

/// The `NodeFeatureRule`. Labels below `feature.node.kubernetes.io` need no setting of Node Feature Discovery.
pub fn rule() -> Value {
    let hexadecimal = |number: u16| format!("{number:04x}");
    let is = |id: &PciId| {
        json!({ "matchFeatures": [{
            "feature": "pci.device",
            "matchExpressions": {
                "vendor": { "op": "In", "value": [hexadecimal(id.vendor)] },
                "device": { "op": "In", "value": [hexadecimal(id.device)] },
            },
        }] })
    };
    json!({
        "apiVersion": "nfd.k8s-sigs.io/v1alpha1",
        "kind": "NodeFeatureRule",
        "metadata": { "name": "cxi-nics" },
        "spec": { "rules": [{
            "name": "cxi-nics",
            "labels": CXIDriverSpec::new("").node_selector,
            "matchAny": NICS.iter().map(is).collect::<Vec<_>>(),
        }] },
    })
}
