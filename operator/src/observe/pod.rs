//! What a pod is to the rollout: a holder of the device, a pod of ours, a worker of KMM, or nothing.

use std::{collections::BTreeSet, time::Duration};

use cxi_api::{
    RevisionId,
    names::{DRIVER_LABEL, REVISION_LABEL, ROLE_LABEL, Role},
};
use cxi_rollout::world::{Holder, ImageTrouble, OwnPod, PodHealth, PodState, Worker};
use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt;
use serde::Deserialize;

/// Annotation of the mirror of a static pod (kubelet `pkg/kubelet/types`).
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Label of KMM's worker pods: `Load` or `Unload` (KMM `internal/pod`, as are the next three).
pub const WORKER_ACTION_LABEL: &str = "kmm.node.kubernetes.io/worker-action";

/// Label of KMM's pull pods.
pub const PULL_POD_LABEL: &str = "kmm.node.kubernetes.io/pull-pod-type";

const WORKER_CONFIG_ANNOTATION: &str = "kmm.node.kubernetes.io/worker-config";

const MODULE_NAME_LABEL: &str = "kmm.node.kubernetes.io/module.name";

/// Reasons of a waiting container whose image cannot be had (kubelet `pkg/kubelet/images`).
const IMAGE_TROUBLE: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// Whether a resource is one that a device plugin may offer.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.starts_with("kubernetes.io/") && !name.starts_with("requests.")
}

/// How many of an extended resource. A quantity that cannot be read counts as one: it is not nothing.
pub fn count(quantity: &Quantity) -> i64 {
    let text = quantity.0.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "Ki" => 1_024,
        "Mi" => 1_048_576,
        _ => return 1,
    };
    number.parse::<i64>().ok().and_then(|number| number.checked_mul(factor)).unwrap_or(1)
}

/// Extended resources that a pod requests; names may repeat.
pub fn requested(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    containers
        .iter()
        .chain(init)
        .filter_map(|container| container.resources.as_ref())
        .flat_map(|resources| [&resources.requests, &resources.limits])
        .flatten()
        .flatten()
        .filter(|(name, quantity)| is_extended(name) && count(quantity) > 0)
        .map(|(name, _)| name.as_str())
}

/// Node that a pod is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The pod as a holder of one of `resources`, unless it has ended or requests none of them.
pub fn holder(pod: &Pod, resources: &BTreeSet<String>) -> Option<Holder> {
    let status = pod.status.as_ref();
    if matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")) {
        return None;
    }
    let held: BTreeSet<&str> = requested(pod).filter(|name| resources.contains(*name)).collect();
    if held.is_empty() {
        return None;
    }
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    Some(Holder {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        labels: pod.labels().clone(),
        resources: held.into_iter().map(str::to_owned).collect(),
        // The API server adds the grace period before it stores the time.
        ends: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        controller: controller.map(|owner| (owner.kind.clone(), owner.name.clone())),
        is_static: pod.annotations().contains_key(MIRROR_ANNOTATION),
        started: status.is_some_and(|status| status.start_time.is_some()),
        health: health(status),
        grace: grace(pod),
        unreadable: false,
        refused: None,
    })
}

/// How the pod is, for PodDisruptionBudgets.
fn health(status: Option<&PodStatus>) -> PodHealth {
    let ready = |status: &PodStatus| {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    match status {
        None => PodHealth::Pending,
        Some(status) if status.phase.as_deref() == Some("Pending") => PodHealth::Pending,
        Some(status) if ready(status) => PodHealth::Ready,
        Some(_) => PodHealth::Unready,
    }
}

/// Time that the pod is given to end; the API server fills in 30 s where nothing is said.
fn grace(pod: &Pod) -> Duration {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(seconds.map_or(30, |seconds| u64::try_from(seconds).unwrap_or_default()))
}

/// The pod as one of ours.
pub fn own(pod: &Pod) -> Option<OwnPod> {
    let roles = [Role::DevicePlugin, Role::RetryHandler, Role::Prefetch, Role::Cleanup, Role::HostDriver];
    let label = pod.labels().get(ROLE_LABEL)?;
    Some(OwnPod {
        role: roles.into_iter().find(|role| role.as_str() == label)?,
        driver: pod.labels().get(DRIVER_LABEL).cloned().unwrap_or_default(),
        revision: pod.labels().get(REVISION_LABEL).and_then(|text| text.parse::<RevisionId>().ok()),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        state: state(pod.status.as_ref()),
        deleting: pod.metadata.deletion_timestamp.is_some(),
    })
}

fn state(status: Option<&PodStatus>) -> PodState {
    let Some(status) = status else { return PodState::Pending { image: None } };
    match status.phase.as_deref() {
        Some("Succeeded") => PodState::Succeeded {
            message: main_container(status)
                .and_then(|c| c.state.as_ref()?.terminated.as_ref()?.message.clone())
                .unwrap_or_default(),
        },
        Some("Failed") => match (taken_away(status), containers(status).find_map(own_failure)) {
            (None, Some(message)) => PodState::Failed { message },
            (why, _) => {
                let why = why.unwrap_or_else(|| "the pod failed before its container ran".to_owned());
                PodState::Unfinished { why }
            }
        },
        Some("Running") => {
            let all = status.container_statuses.as_deref().unwrap_or_default();
            PodState::Running { ready: !all.is_empty() && all.iter().all(|c| c.ready) }
        }
        _ => PodState::Pending { image: image_trouble(status) },
    }
}

/// Why the kubelet refused a pod or ended it, or another did (preemption, a taint, the loss of the node); nothing when its containers
/// ended by themselves. The kubelet gives a pod that it refuses, evicts, preempts or shuts down a reason of its own, whatever the
/// reason is called (`pkg/kubelet`: `rejectPod`, `lifecycle/predicate.go`, `eviction`, `preemption`, `nodeshutdown`).
fn taken_away(status: &PodStatus) -> Option<String> {
    if let Some(reason) = status.reason.as_deref().filter(|reason| !reason.is_empty()) {
        return Some(words(reason, status.message.as_deref()));
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let disrupted = conditions.iter().find(|one| one.type_ == "DisruptionTarget" && one.status == "True");
    disrupted.map(|one| words(one.reason.as_deref().unwrap_or("DisruptionTarget"), one.message.as_deref()))
}

/// Termination message of a container that ended badly by itself; nothing of one that was killed for want of memory, or that the
/// kubelet lost (`pkg/kubelet/kubelet_pods.go`: `ContainerStatusUnknown`).
fn own_failure(container: &ContainerStatus) -> Option<String> {
    let ended = container.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
    let killed = matches!(ended.reason.as_deref(), Some("OOMKilled" | "ContainerStatusUnknown"));
    let said = || ended.message.clone().or_else(|| ended.reason.clone()).unwrap_or_default();
    (!killed).then(said)
}

/// The one-shot pods and the DaemonSet of ours have one container that counts.
fn main_container(status: &PodStatus) -> Option<&ContainerStatus> {
    status.container_statuses.as_ref()?.first()
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten()
}

/// What keeps a container from its image.
pub fn image_trouble(status: &PodStatus) -> Option<ImageTrouble> {
    containers(status).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| IMAGE_TROUBLE.contains(reason))?;
        let message = waiting.message.as_deref();
        let words = words(reason, message);
        Some(if is_missing(reason, message.unwrap_or_default()) {
            ImageTrouble::Missing(words)
        } else {
            ImageTrouble::Unpulled(words)
        })
    })
}

/// Whether the kubelet says that there is no such image. Registries answer `manifest unknown` or `name unknown` (OCI distribution
/// specification, error codes), which containerd passes on as gRPC's `NotFound` and "not found", and CRI-O in the registry's words. A host
/// name that is not found is "no such host", and a repository that may only be secret is "access denied": both say nothing of the
/// image.
fn is_missing(reason: &str, message: &str) -> bool {
    let no_name = matches!(reason, "InvalidImageName" | "ErrImageNeverPull");
    let said = ["code = NotFound", "manifest unknown", "name unknown"].iter().any(|words| message.contains(words));
    no_name || said || message.trim_end().ends_with("not found")
}

fn words(reason: &str, message: Option<&str>) -> String {
    message.filter(|m| !m.is_empty()).map_or_else(|| reason.to_owned(), |m| format!("{reason}: {m}"))
}

/// The pod as a worker of KMM for one of our Modules.
pub fn worker(pod: &Pod) -> Option<Worker> {
    let action = pod.labels().get(WORKER_ACTION_LABEL)?;
    let module = pod.labels().get(MODULE_NAME_LABEL).filter(|name| name.starts_with("cxi-"))?;
    let status = pod.status.as_ref();
    let kernel = pod.annotations().get(WORKER_CONFIG_ANNOTATION).and_then(|text| kernel(text));
    Some(Worker {
        module: module.clone(),
        loads: action == "Load",
        kernel,
        restarts: status.map_or(0, |s| containers(s).map(|c| c.restart_count).sum()),
        // A worker that the kubelet refuses has no container: KMM's ask for half a processor, and a full node has none.
        trouble: status.and_then(|status| containers(status).find_map(trouble).or_else(|| taken_away(status))),
        image_missing: status.is_some_and(|status| image_trouble(status).is_some()),
    })
}

fn kernel(config: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct WorkerConfig {
        kernel_version: Option<String>,
    }
    serde_saphyr::from_str::<WorkerConfig>(config).ok()?.kernel_version
}

fn trouble(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref()?;
        // What every container goes through is no trouble.
        if matches!(reason, "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let last = container.last_state.as_ref().and_then(failure);
        return Some(last.unwrap_or_else(|| words(reason, waiting.message.as_deref())));
    }
    failure(state)
}

fn failure(state: &ContainerState) -> Option<String> {
    let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
    let said = ended.message.as_deref().filter(|m| !m.trim().is_empty()).map(str::trim);
    let exit = format!("exit status {}", ended.exit_code);
    Some(said.map_or_else(|| exit.clone(), |said| format!("{exit}: {said}")))
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
