//! Pods over Multus: as many Slingshot networks as a pod asks for NICs.

use cxi_api::names::NETWORKS_POLICY;
use serde_json::{Value, json};

use super::mutating::{ASKS, Failure, Policy};

/// The policy. A pod that names its networks itself, or says with an empty annotation that it wants none, is left as it is.
pub fn networks() -> Policy {
    Policy {
        name: NETWORKS_POLICY,
        namespaces: None,
        // It sees every pod of the cluster: better one without an interface, which its author notices, than none at all.
        failure: Failure::Pass,
        conditions: &[
            ("asks-for-a-nic", ASKS),
            ("names-no-networks", "!object.metadata.?annotations[?'k8s.v1.cni.cncf.io/networks'].hasValue()"),
        ],
        variables: &[
            ("resource", "params.spec.devicePlugin.resourceName"),
            (
                "running",
                "(object.spec.containers + object.spec.?initContainers.orValue([]).filter(c, \
                 c.?restartPolicy.orValue('') == 'Always')).map(c, \
                 quantity(string(c.?resources.?limits[?variables.resource].orValue('0'))).asInteger()).sum()",
            ),
            (
                "starting",
                "object.spec.?initContainers.orValue([]).map(c, \
                 quantity(string(c.?resources.?limits[?variables.resource].orValue('0'))).asInteger())",
            ),
            // What the scheduler counts: what runs together, or the largest that runs before.
            ("nics", "(variables.starting + [variables.running]).max()"),
            // <namespace>/<name>@<interface>; Multus lets every namespace use those of namespace default.
            (
                "networks",
                "['hsn0', 'hsn1', 'hsn2', 'hsn3', 'hsn4', 'hsn5', 'hsn6', 'hsn7'].filter(name, \
                 int(name.substring(3)) < variables.nics).map(name, 'default/' + name + '@' + name).join(',')",
            ),
        ],
        mutation: (
            "ApplyConfiguration",
            "applyConfiguration",
            "Object{metadata: Object.metadata{annotations: {'k8s.v1.cni.cncf.io/networks': variables.networks}}}",
        ),
    }
}

/// How a pod gets an interface of the host: the kind's name and its configuration for the interface with this number.
pub type Definition = (&'static str, fn(usize) -> Value);

/// Examples of `NetworkAttachmentDefinitions`. The first is for pods that share a NIC; the second gives the interface itself to
/// one pod, for whole nodes.
pub const DEFINITIONS: [Definition; 2] = [("ipvlan", ipvlan), ("host-device", host_device)];

fn ipvlan(number: usize) -> Value {
    let plugin = json!({ "type": "ipvlan", "master": format!("hsn{number}"), "mode": "l2", "ipam": addresses(number) });
    definition(number, &plugin)
}

fn host_device(number: usize) -> Value {
    let plugin = json!({ "type": "host-device", "device": format!("hsn{number}"), "ipam": addresses(number) });
    definition(number, &plugin)
}

/// A range of private addresses per network, shared out over all nodes by whereabouts.
fn addresses(number: usize) -> Value {
    json!({ "type": "whereabouts", "range": format!("10.150.{number}.0/24") })
}

fn definition(number: usize, plugin: &Value) -> Value {
    let name = format!("hsn{number}");
    let config = json!({ "cniVersion": "0.3.1", "name": name, "plugins": [plugin] });
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "config": config.to_string() },
    })
}
