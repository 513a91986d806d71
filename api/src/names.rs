//! Names of labels, annotations, taints, finalizers and objects: everything that is matched by string somewhere else.

use sha2::{Digest as _, Sha256};

use crate::revision::RevisionId;

/// API group of every kind of this operator.
pub const GROUP: &str = "cxi.hpe.com";

/// Extended resource that pods request when a CXIDriver does not say otherwise.
pub const DEFAULT_RESOURCE: &str = "hpe.com/cxi";

/// Node label whose value names the CXIDriver that owns the node. Every KMM Module of that driver selects it, so the set of
/// nodes that KMM acts on changes only when the operator says so (a label of node feature discovery that comes and goes
/// must not unload a driver).
pub const DRIVER_LABEL: &str = "cxi.hpe.com/driver";

/// Node label with the driver version that was verified on the node; absent while a node is being worked on.
pub const DRIVER_VERSION_LABEL: &str = "cxi.hpe.com/driver-version";

/// Node label by which an administrator asks for something: `skip`, `now`, `retry` or `rollback`.
pub const UPGRADE_LABEL: &str = "cxi.hpe.com/upgrade";

/// Taint (effect `PreferNoSchedule`) on nodes that wait for an upgrade, so that new jobs prefer finished nodes.
pub const UPGRADE_PENDING_TAINT: &str = "cxi.hpe.com/upgrade-pending";

/// CXIDriver annotation: the id of the halted rollout that may go on.
pub const RESUME_ANNOTATION: &str = "cxi.hpe.com/resume";

/// CXIDriver annotation: `"true"` makes deletion leave the drivers loaded.
pub const ORPHAN_ANNOTATION: &str = "cxi.hpe.com/orphan";

/// CXIDriver annotation: the namespace of the operator that is to look after it, when `status.installation` names another one that
/// is gone for good.
pub const INSTALLATION_ANNOTATION: &str = "cxi.hpe.com/installation";

/// Annotation of a CXIDriver: how many nodes may stop to match `spec.nodeSelector` at the same time and have their driver unloaded.
/// Without it, `updateStrategy.maxUnavailable` is the limit, and what goes beyond is taken for a failure of whatever sets the labels.
pub const MAX_UNSELECTED_ANNOTATION: &str = "cxi.hpe.com/max-unselected";

/// Finalizer of a CXIDriver: it goes when every node was taken down in order.
pub const TEARDOWN_FINALIZER: &str = "cxi.hpe.com/teardown";

/// Module label: the revision's content hash.
pub const REVISION_LABEL: &str = "cxi.hpe.com/revision";

/// Module label: the driver version with characters that labels do not allow replaced by `_`; the exact version is in
/// [`VERSION_ANNOTATION`].
pub const VERSION_LABEL: &str = "cxi.hpe.com/version";

/// Module annotation: the driver version, exactly.
pub const VERSION_ANNOTATION: &str = "cxi.hpe.com/version";

/// Label of every object and pod that the operator creates.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Value of [`MANAGED_BY_LABEL`]; also the field manager of the operator's writes.
pub const OPERATOR: &str = "cxi-operator";

/// Field manager of the node agent's writes.
pub const AGENT: &str = "cxi-agent";

/// Account of the device plugin's pods.
pub const DEVICE_PLUGIN_ACCOUNT: &str = "cxi-device-plugin";

/// Account of the pods in which KMM loads and unloads drivers. Without one in the Module each flavour of KMM chooses another.
pub const MODULE_LOADER_ACCOUNT: &str = "cxi-module-loader";

/// Account of the node agent and of one-shot pods.
pub const AGENT_ACCOUNT: &str = "cxi-agent";

/// Account of the metrics exporter's pods.
pub const METRICS_EXPORTER_ACCOUNT: &str = "cxi-metrics-exporter";

/// Account of the retry handler's pods.
pub const RETRY_HANDLER_ACCOUNT: &str = "cxi-retry-handler";

/// Name of the policy that keeps node agents to their own nodes, and of its binding.
pub const AGENT_POLICY: &str = "cxi-agent";

/// Name of the policy that puts a retry handler into pods that ask for a NIC, and of its binding.
pub const SIDECAR_POLICY: &str = "cxi-retry-handler-sidecar";

/// Name of the policy that keeps the volumes of that retry handler for it, and of its binding.
pub const SIDECAR_VOLUMES_POLICY: &str = "cxi-retry-handler-volumes";

/// Name of the policy that gives pods over Multus as many networks as they ask for NICs, and of its binding.
pub const NETWORKS_POLICY: &str = "cxi-networks";

/// Annotation of an operand's DaemonSet: the hash of the DaemonSet as rendered.
pub const RENDERED_ANNOTATION: &str = "cxi.hpe.com/rendered";

/// Annotation of the device plugin's DaemonSet: the resource that its pods offer.
pub const RESOURCE_ANNOTATION: &str = "cxi.hpe.com/resource";

/// Pod label: what a pod of ours is for, see [`Role`].
pub const ROLE_LABEL: &str = "cxi.hpe.com/role";

/// What a pod of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// DaemonSet pod that offers the NICs to the kubelet.
    DevicePlugin,
    /// DaemonSet pod that reports what the node has.
    Agent,
    /// DaemonSet pod that serves the node's metrics.
    MetricsExporter,
    /// DaemonSet pod that runs the retry handlers of the node's NICs: it has their devices open.
    RetryHandler,
    /// One-shot pod of the new driver image: pulls it and hands over its manifest.
    Prefetch,
    /// One-shot pod that takes out modules that a failed load left behind.
    Cleanup,
    /// One-shot pod that has the host load the driver that it brings.
    HostDriver,
    /// One-shot pod of the site's that tests a new driver.
    Validation,
}

impl Role {
    /// Whether it is a pod that a step of a node starts and waits for; the others belong to DaemonSets.
    pub const fn is_one_shot(self) -> bool {
        match self {
            Self::Prefetch | Self::Cleanup | Self::HostDriver | Self::Validation => true,
            Self::DevicePlugin | Self::Agent | Self::MetricsExporter | Self::RetryHandler => false,
        }
    }

    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::DevicePlugin,
        Self::Agent,
        Self::MetricsExporter,
        Self::RetryHandler,
        Self::Prefetch,
        Self::Cleanup,
        Self::HostDriver,
        Self::Validation,
    ];

    /// The role that this value of [`ROLE_LABEL`] stands for.
    pub fn named(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == label)
    }

    /// The value of [`ROLE_LABEL`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DevicePlugin => "device-plugin",
            Self::Agent => "agent",
            Self::MetricsExporter => "metrics-exporter",
            Self::RetryHandler => "retry-handler",
            Self::Prefetch => "prefetch",
            Self::Cleanup => "cleanup",
            Self::HostDriver => "host-driver",
            Self::Validation => "validation",
        }
    }
}

/// Prefix of KMM's label that says which version of a Module a node runs: the freeze.
/// Source: KMM `internal/constants`, documented in KMM's ordered-upgrade guide.
pub const KMM_VERSION_PREFIX: &str = "kmm.node.kubernetes.io/version-module.";

/// Prefix of KMM's internal label that keeps the worker pod's part of a version; absent once an unload was ordered.
pub const KMM_WORKER_PREFIX: &str = "beta.kmm.node.kubernetes.io/version-worker-pod.";

/// Longest sum of the lengths of namespace and Module name that every supported KMM accepts: 2.6 and older allow 40, 2.7 allows 41, and
/// the releases from the middle of 2026 on allow 38 (`maxCombinedLength` in KMM's `internal/webhook/module.go`).
pub const KMM_MAX_NAME: usize = 38;

/// Longest name of a CXIDriver: with `device-plugin.` in front it is part of a label key, which holds 63 characters.
pub const DRIVER_NAME_MAX: usize = 40;

/// Name of the KMM Module of a revision.
pub fn module_name(revision: &RevisionId) -> String {
    format!("cxi-{revision}")
}

/// Name of the `ModuleImagesConfig` by which KMM is asked about images for a CXIPreflight, by the UID of that and the revision.
pub fn question_name(preflight: &str, revision: &RevisionId) -> String {
    format!("cxi-ask-{}", digits(&format!("{preflight}/{revision}")))
}

/// Name of the pod that validates a node, by the UID of the Node and the number of the transaction.
pub fn validation_pod(node_uid: &str, attempt: i32) -> String {
    format!("cxi-validation-{}", digits(&format!("{node_uid}/{attempt}")))
}

/// The revision in the name of a KMM Module of ours.
pub fn revision_in(module: &str) -> Option<&str> {
    module.strip_prefix("cxi-")
}

/// Node label by which KMM loads a Module on a node (its value is the Module's version).
pub fn kmm_version_label(namespace: &str, module: &str) -> String {
    format!("{KMM_VERSION_PREFIX}{namespace}.{module}")
}

/// KMM's internal worker label of a Module.
pub fn kmm_worker_label(namespace: &str, module: &str) -> String {
    format!("{KMM_WORKER_PREFIX}{namespace}.{module}")
}

/// Node label by which KMM says which version is loaded (KMM 2.5 and newer).
pub fn kmm_version_ready_label(namespace: &str, module: &str) -> String {
    format!("kmm.node.kubernetes.io/{namespace}.{module}.version.ready")
}

/// Name of KMM's worker pod on a node (KMM `internal/pod/workerpodmanager.go`).
pub fn kmm_worker_pod(node: &str, module: &str) -> String {
    format!("kmm-worker-{node}-{module}")
}

/// What the keys of [`device_plugin_gate`] begin with.
pub const DEVICE_PLUGIN_GATE_PREFIX: &str = "cxi.hpe.com/device-plugin.";

/// Node label that opens the device plugin's gate; its value is the revision verified on the node.
pub fn device_plugin_gate(driver: &str) -> String {
    format!("{DEVICE_PLUGIN_GATE_PREFIX}{driver}")
}

/// What the keys of [`retry_handler_gate`] begin with.
pub const RETRY_HANDLER_GATE_PREFIX: &str = "cxi.hpe.com/retry-handler.";

/// Node label that opens the gate of what works on the device for as long as a driver is loaded, which is the retry handler;
/// its value stands for the retry handler's image ([`retry_handler_value`]). It is closed when no pod holds a NIC, which may be later than the device
/// plugin's: pods that still run need their retry handler.
pub fn retry_handler_gate(driver: &str) -> String {
    format!("{RETRY_HANDLER_GATE_PREFIX}{driver}")
}

/// Name of the DaemonSet whose pods have this role. The names of a retry handler's go on, see [`retry_handler_daemonset`].
pub fn daemonset(role: Role, driver: &str) -> String {
    format!("cxi-{}-{driver}", role.as_str())
}

/// Label of a retry handler's pods: the value of the gate that they belong to.
pub const RETRY_HANDLER_LABEL: &str = "cxi.hpe.com/retry-handler";

/// Value of the label [`retry_handler_gate`] where `image` runs: ten hexadecimal digits.
pub fn retry_handler_value(image: &str) -> String {
    digits(image)
}

/// Name of the DaemonSet of a retry handler, by the value of its gate. There is one for each image in use: while a driver is
/// upgraded there may be two.
pub fn retry_handler_daemonset(driver: &str, value: &str) -> String {
    format!("{}-{value}", daemonset(Role::RetryHandler, driver))
}

/// Ten hexadecimal digits that stand for a text.
fn digits(text: &str) -> String {
    format!("{:x}", Sha256::digest(text.as_bytes()))[..10].to_owned()
}

/// Turns any text into a label value: at most 63 characters of `[A-Za-z0-9._-]` with an alphanumeric at both ends.
pub fn label_value(text: &str) -> String {
    let replaced: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .take(63)
        .collect();
    replaced.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_legal() {
        for (text, value) in [("13.0.0", "13.0.0"), ("2.0.1+shs12", "2.0.1_shs12"), ("+x+", "x"), ("", "")] {
            assert_eq!(label_value(text), value);
        }
        assert_eq!(label_value(&"a".repeat(80)).len(), 63);
    }
}
