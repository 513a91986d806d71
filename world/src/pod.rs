//! What a pod is to the rollout: a holder of the device, a pod of ours, a worker of KMM, or nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cxi_api::{
    RevisionId,
    kmm::{MODULE_NAME_LABEL, WORKER_ACTION_LABEL},
    names::{DRIVER_LABEL, REVISION_LABEL, ROLE_LABEL, Role},
};
use cxi_rollout::world::{Holder, ImageTrouble, OwnPod, PodHealth, PodState, Worker};
use serde::Deserialize;

use crate::seen::{self, ContainerState, ContainerStatus, Identity, PodStatus};

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

/// The pod as a holder of one of `resources`, unless it requests none of them.
pub fn holder(id: &Identity, pod: &seen::Pod, resources: &BTreeSet<String>) -> Option<Holder> {
    let held: Vec<String> =
        pod.resources.iter().filter(|name| resources.contains(&***name)).map(ToString::to_string).collect();
    if held.is_empty() {
        return None;
    }
    Some(Holder {
        labels: pod.labels.to_map(),
        resources: held,
        ends: pod.ends,
        controller: pod.controller.as_ref().map(|(kind, name)| (kind.to_string(), name.to_string())),
        is_static: pod.is_static,
        // The mirror of a static pod is made after the kubelet has accepted the pod.
        started: pod.started || pod.is_static,
        health: pod.health,
        grace: Duration::from_secs(pod.grace),
        unreadable: false,
        ..unreadable(id, resources)
    })
}

/// A pod that cannot be read: it may hold anything.
pub fn unreadable(id: &Identity, resources: &BTreeSet<String>) -> Holder {
    Holder {
        namespace: id.namespace().to_owned(),
        name: id.name().to_owned(),
        uid: id.uid.to_string(),
        labels: BTreeMap::new(),
        resources: resources.iter().cloned().collect(),
        ends: None,
        controller: None,
        is_static: false,
        started: true,
        health: PodHealth::Ready,
        grace: Duration::ZERO,
        unreadable: true,
        refused: None,
    }
}

/// The pod as one of ours.
pub fn own(id: &Identity, pod: &seen::OwnPod) -> Option<OwnPod> {
    Some(OwnPod {
        role: Role::named(pod.labels.get(ROLE_LABEL)?)?,
        driver: pod.labels.get(DRIVER_LABEL).unwrap_or_default().to_owned(),
        revision: pod.labels.get(REVISION_LABEL).and_then(|text| text.parse::<RevisionId>().ok()),
        name: id.name().to_owned(),
        uid: id.uid.to_string(),
        state: state(pod.status.as_ref()),
        deleting: pod.deleting,
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
            (None, Some((code, message))) => PodState::Failed { code, message },
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

/// Exit code and termination message of a container that ended badly by itself; nothing of one that was killed for want of memory, or that the
/// kubelet lost (`pkg/kubelet/kubelet_pods.go`: `ContainerStatusUnknown`).
fn own_failure(container: &ContainerStatus) -> Option<(i32, String)> {
    let ended = container.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
    let killed = matches!(ended.reason.as_deref(), Some("OOMKilled" | "ContainerStatusUnknown"));
    let said = || ended.message.clone().or_else(|| ended.reason.clone()).unwrap_or_default();
    (!killed).then(|| (ended.exit_code, said()))
}

/// The one-shot pods and the DaemonSet of ours have one container that counts.
fn main_container(status: &PodStatus) -> Option<&ContainerStatus> {
    status.container_statuses.as_ref()?.first()
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten()
}

/// Why the scheduler finds no node for a pod, in its words.
pub fn unscheduled(status: &PodStatus) -> Option<String> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let one = conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    Some(words(one.reason.as_deref().unwrap_or("Unschedulable"), one.message.as_deref()))
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
pub fn worker(pod: &seen::OwnPod) -> Option<Worker> {
    let action = pod.labels.get(WORKER_ACTION_LABEL)?;
    let module = pod.labels.get(MODULE_NAME_LABEL).filter(|name| name.starts_with("cxi-"))?;
    let status = pod.status.as_ref();
    let kernel = pod.worker_config.as_deref().and_then(kernel);
    Some(Worker {
        module: module.to_owned(),
        loads: action == "Load",
        kernel,
        restarts: status.map_or(0, |s| containers(s).map(|c| c.restart_count).fold(0, i32::saturating_add)),
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
