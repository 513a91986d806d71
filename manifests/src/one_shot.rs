//! Pods that do one thing on one node and end.

use cxi_api::{
    CXIDriverSpec, KernelModule, RevisionId, Validation,
    names::{AGENT_ACCOUNT, REVISION_LABEL, Role, validation_pod},
};
use cxi_driver_image_format::manifest::MANIFEST_PATH;
use k8s_openapi::{
    api::core::v1::{Container, LocalObjectReference, Pod, PodSpec, SecurityContext, Toleration},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    environment::variable,
    host::{HostDirectory, mounts, volumes},
    images::{self, Images},
    labels::{pod_labels, short_hash},
    security::{loads_modules, no_capabilities, seccomp, sees_open_files},
};

/// User of pods that need no rights: the overflow user of Linux, which owns no files.
const UNPRIVILEGED: i64 = 65534;

/// What a prefetch pod is for.
#[derive(Clone, Copy, Debug)]
pub struct Prefetch<'a> {
    /// CXIDriver.
    pub driver: &'a str,
    /// Node.
    pub node: &'a str,
    /// UID of the Node.
    pub node_uid: &'a str,
    /// Revision that will be loaded.
    pub revision: &'a RevisionId,
    /// Its image.
    pub image: &'a str,
    /// The image that KMM will need for unloading the present revision.
    pub old_image: Option<&'a str>,
}

/// A pod that brings the images to the node while the old driver still runs. Its termination message is the new image's
/// manifest; an image without one ends well too, with an empty message.
pub fn prefetch(wanted: &Prefetch<'_>, spec: &CXIDriverSpec, namespace: &str) -> Pod {
    let mut labels = pod_labels(wanted.driver, Role::Prefetch);
    labels.insert(REVISION_LABEL.to_owned(), wanted.revision.to_string());
    let name = format!("cxi-prefetch-{}", short_hash(&[wanted.node_uid, wanted.revision.as_str()]));
    let old = wanted.old_image.map(|image| unprivileged("old-image", image, "true"));
    let hand_over = format!("cp {MANIFEST_PATH} /dev/termination-log || true");
    let spec = PodSpec {
        init_containers: old.map(|old| vec![old]),
        containers: vec![unprivileged("manifest", wanted.image, &hand_over)],
        image_pull_secrets: pull_secrets(spec),
        ..on_node(wanted.node)
    };
    Pod { metadata: metadata(name, namespace, labels), spec: Some(spec), status: None }
}

/// What a clean-up pod is for.
#[derive(Clone, Copy, Debug)]
pub struct Cleanup<'a> {
    /// CXIDriver.
    pub driver: &'a str,
    /// Node.
    pub node: &'a str,
    /// UID of the Node.
    pub node_uid: &'a str,
    /// Modules to take out, users before what they use.
    pub modules: &'a [String],
}

/// Where the clean-up sees the host's processes, for it must not remove a module whose device a process has open.
const PROCESSES: [HostDirectory; 1] = [HostDirectory::read("proc", "/proc", "/host/proc")];

/// A pod that takes out what a failed load left in the kernel.
pub fn cleanup(wanted: &Cleanup<'_>, spec: &CXIDriverSpec, namespace: &str, images: &Images) -> Pod {
    let name = format!("cxi-cleanup-{}", short_hash(&[wanted.node_uid]));
    let modules = wanted.modules.iter().flat_map(|module| ["--module".to_owned(), module.clone()]);
    let container = Container {
        name: "remove-modules".to_owned(),
        image: Some(images::agent(spec, images)),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["cxi-agent".to_owned()]),
        args: Some(["remove-modules", "--proc", "/host/proc"].map(str::to_owned).into_iter().chain(modules).collect()),
        security_context: Some(sees_open_files(&["SYS_MODULE"])),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts(&PROCESSES)),
        ..Container::default()
    };
    let spec = PodSpec { containers: vec![container], volumes: Some(volumes(&PROCESSES)), ..on_node(wanted.node) };
    let labels = pod_labels(wanted.driver, Role::Cleanup);
    Pod { metadata: metadata(name, namespace, labels), spec: Some(spec), status: None }
}

/// What a pod is for that has the host load its driver.
#[derive(Clone, Copy, Debug)]
pub struct HostDriver<'a> {
    /// CXIDriver.
    pub driver: &'a str,
    /// Node.
    pub node: &'a str,
    /// UID of the Node.
    pub node_uid: &'a str,
}

/// The host's files, for its own `modprobe`: which modules there are, and with which parameters they are loaded, is the host's
/// affair. So are commands that its configuration has `modprobe` run: they may write to `/run` or `/var`.
const HOST_FILES: [HostDirectory; 1] = [HostDirectory::read("host", "/", "/host").shallow()];

/// A pod that has the host load the driver that it brings. It runs the host's `modprobe` in the host's files; no container
/// that stays may load modules.
pub fn host_driver(wanted: &HostDriver<'_>, spec: &CXIDriverSpec, namespace: &str, images: &Images) -> Pod {
    let name = format!("cxi-host-driver-{}", short_hash(&[wanted.node_uid]));
    let modules = KernelModule::LOAD
        .map(KernelModule::file_stem)
        .into_iter()
        .flat_map(|module| ["--module".to_owned(), module.to_owned()]);
    let container = Container {
        name: "modprobe".to_owned(),
        image: Some(images::agent(spec, images)),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["cxi-agent".to_owned()]),
        args: Some(["load-modules", "--root", "/host"].map(str::to_owned).into_iter().chain(modules).collect()),
        security_context: Some(loads_modules()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts(&HOST_FILES)),
        ..Container::default()
    };
    let spec = PodSpec { containers: vec![container], volumes: Some(volumes(&HOST_FILES)), ..on_node(wanted.node) };
    let labels = pod_labels(wanted.driver, Role::HostDriver);
    Pod { metadata: metadata(name, namespace, labels), spec: Some(spec), status: None }
}

/// What a validation pod is for.
#[derive(Clone, Copy, Debug)]
pub struct Validated<'a> {
    /// CXIDriver.
    pub driver: &'a str,
    /// Node.
    pub node: &'a str,
    /// UID of the Node.
    pub node_uid: &'a str,
    /// Revision that is tested.
    pub revision: &'a RevisionId,
    /// Number of the transaction.
    pub attempt: i32,
    /// Driver release.
    pub version: &'a str,
    /// Device names of the NICs to test.
    pub devices: &'a [String],
}

/// The site's test of a node. It is privileged because the device plugin, which gives NICs to pods, is away from a node that is being
/// tested (a privileged container has all of the host's devices); and in the host's network, where the interfaces of the NICs are. The
/// operator ends a pod that takes too long: a deadline of the kubelet's would pass for a pod that was not run.
pub fn validation(wanted: &Validated<'_>, validation: &Validation, spec: &CXIDriverSpec, namespace: &str) -> Pod {
    let mut labels = pod_labels(wanted.driver, Role::Validation);
    labels.insert(REVISION_LABEL.to_owned(), wanted.revision.to_string());
    let facts = [
        variable("CXI_NODE", wanted.node),
        variable("CXI_DEVICES", wanted.devices.join(",")),
        variable("CXI_VERSION", wanted.version),
        variable("CXI_REVISION", wanted.revision.as_str()),
    ];
    let own = validation.env.iter().map(|own| variable(&own.name, &own.value));
    let some = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    let container = Container {
        name: "validation".to_owned(),
        image: Some(validation.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: some(&validation.command),
        args: some(&validation.args),
        // What the operator says of the node is last, and so counts.
        env: Some(own.chain(facts).collect()),
        security_context: Some(SecurityContext { privileged: Some(true), ..SecurityContext::default() }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        host_network: Some(true),
        image_pull_secrets: pull_secrets(spec),
        ..on_node(wanted.node)
    };
    let name = validation_pod(wanted.node_uid, wanted.attempt);
    Pod { metadata: metadata(name, namespace, labels), spec: Some(spec), status: None }
}

/// Bound to the node without the scheduler: whatever the node's state is for others, this pod is for this node. It asks for no CPU and
/// no memory, because the kubelet refuses what does not fit, and nodes of whole-node jobs have nothing left (a limit would be a
/// request). Critical pods are not refused for want of memory or disk either, nor evicted for it (kubelet `pkg/kubelet/eviction`).
fn on_node(node: &str) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_name: Some(node.to_owned()),
        priority_class_name: Some("system-node-critical".to_owned()),
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(AGENT_ACCOUNT.to_owned()),
        termination_grace_period_seconds: Some(5),
        tolerations: Some(vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }]),
        ..PodSpec::default()
    }
}

fn unprivileged(name: &str, image: &str, script: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()]),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(no_capabilities()),
            // What it writes goes to the file of its last words, which the kubelet mounts.
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            run_as_user: Some(UNPRIVILEGED),
            seccomp_profile: Some(seccomp()),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn pull_secrets(spec: &CXIDriverSpec) -> Option<Vec<LocalObjectReference>> {
    spec.source.image_pull_secret.clone().map(|name| vec![LocalObjectReference { name }])
}

fn metadata(name: String, namespace: &str, labels: std::collections::BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}
