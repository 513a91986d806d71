//! What a soft kubelet writes: the status of pods and nodes, as patches.

use cxi_api::Timestamp;
use serde_json::{Value, json};

use super::{
    plan::{ContainerPlan, PodPlan},
    runtime::{Ended, PodRuntime, Stage},
};

/// A pod's status as a strategic merge patch, bound to the pod's UID.
pub(crate) fn pod_status(pod: &PodPlan, runtime: &PodRuntime) -> Value {
    let init: Vec<Value> = pod.init.iter().map(|c| container(c, &init_state(c, pod, runtime), 0, None)).collect();
    let restarts = runtime.restarts;
    let last = runtime.last_failure.as_ref().map(|message| terminated(1, "Error", message, runtime.accepted_at));
    let containers: Vec<Value> =
        pod.containers.iter().map(|c| container(c, &main_state(c, pod, runtime), restarts, last.clone())).collect();
    let (phase, ready) = match &runtime.stage {
        Stage::Pulling { .. } | Stage::ImageMissing { .. } | Stage::Starting { .. } => ("Pending", false),
        Stage::Running { .. } => ("Running", true),
        Stage::Stopping { .. } | Stage::BackOff { .. } => ("Running", false),
        Stage::Ended(ended) if ended.succeeded => ("Succeeded", false),
        Stage::Ended(_) => ("Failed", false),
    };
    let mut status = json!({
        "phase": phase,
        "startTime": runtime.accepted_at,
        "conditions": [
            condition("Initialized", phase != "Pending"),
            condition("Ready", ready),
            condition("ContainersReady", ready),
        ],
        "containerStatuses": containers,
    });
    if !init.is_empty() {
        status["initContainerStatuses"] = json!(init);
    }
    if let Stage::Ended(Ended { reason: Some(reason), message, .. }) = &runtime.stage {
        status["reason"] = json!(reason);
        status["message"] = json!(message);
    }
    json!({ "metadata": { "uid": pod.uid }, "status": status })
}

fn condition(kind: &str, holds: bool) -> Value {
    json!({ "type": kind, "status": if holds { "True" } else { "False" } })
}

fn container(plan: &ContainerPlan, state: &Value, restarts: u32, last: Option<Value>) -> Value {
    let running = state.get("running").is_some();
    let mut status = json!({
        "name": plan.name,
        "image": plan.image,
        "imageID": "",
        "ready": running,
        "started": running,
        "restartCount": restarts,
        "state": state,
    });
    if let Some(last) = last {
        status["lastState"] = last;
    }
    status
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({ "waiting": { "reason": reason, "message": message } })
}

fn terminated(exit_code: i32, reason: &str, message: &str, at: Timestamp) -> Value {
    json!({ "terminated": {
        "exitCode": exit_code,
        "reason": reason,
        "message": message,
        "startedAt": at,
        "finishedAt": at,
    } })
}

fn image_missing(plan: &ContainerPlan, tries: u32) -> Value {
    // A kubelet alternates between the two; the first try has no back-off yet.
    let reason = if tries <= 1 { "ErrImagePull" } else { "ImagePullBackOff" };
    waiting(reason, &format!("failed to pull image {:?}: not found", plan.image))
}

fn init_state(plan: &ContainerPlan, pod: &PodPlan, runtime: &PodRuntime) -> Value {
    match &runtime.stage {
        Stage::Pulling { .. } => waiting("PodInitializing", ""),
        Stage::ImageMissing { container, tries, .. } => {
            let index = |name: &str| pod.init.iter().position(|c| c.name == name);
            if *container == plan.name {
                image_missing(plan, *tries)
            } else if index(&plan.name) < index(container) || index(container).is_none() {
                terminated(0, "Completed", "", runtime.accepted_at)
            } else {
                waiting("PodInitializing", "")
            }
        }
        _ => terminated(0, "Completed", "", runtime.accepted_at),
    }
}

fn main_state(plan: &ContainerPlan, pod: &PodPlan, runtime: &PodRuntime) -> Value {
    match &runtime.stage {
        Stage::ImageMissing { container, tries, .. } if *container == plan.name => image_missing(plan, *tries),
        Stage::Pulling { .. } | Stage::ImageMissing { .. } | Stage::Starting { .. } => {
            let reason = if pod.init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
            waiting(reason, "")
        }
        Stage::Running { .. } | Stage::Stopping { .. } => json!({ "running": { "startedAt": runtime.started_at } }),
        Stage::BackOff { .. } => waiting("CrashLoopBackOff", "back-off restarting failed container"),
        Stage::Ended(ended) => {
            let reason = if ended.succeeded { "Completed" } else { "Error" };
            terminated(ended.exit_code, reason, &ended.message, ended.at)
        }
    }
}

/// A node's status as a strategic merge patch.
pub(crate) fn node_status(ready: NodeReady, facts: &NodeInfo<'_>, resources: &[(String, i64, i64)]) -> Value {
    let (status, reason) = match ready {
        NodeReady::Yes => ("True", "KubeletReady"),
        NodeReady::No => ("False", "KubeletNotReady"),
        NodeReady::Unknown => ("Unknown", "NodeStatusUnknown"),
    };
    // One more pod than KMM, the operands and any scenario need; cpu and memory never run out.
    let mut capacity = json!({ "cpu": "128", "memory": "512Gi", "pods": "250", "ephemeral-storage": "1Ti" });
    let mut allocatable = capacity.clone();
    for (name, all, healthy) in resources {
        capacity[name] = json!(all.to_string());
        allocatable[name] = json!(healthy.to_string());
    }
    json!({ "status": {
        "conditions": [
            { "type": "Ready", "status": status, "reason": reason, "message": "soft node" },
            { "type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory" },
            { "type": "DiskPressure", "status": "False", "reason": "KubeletHasNoDiskPressure" },
            { "type": "PIDPressure", "status": "False", "reason": "KubeletHasSufficientPID" },
        ],
        "capacity": capacity,
        "allocatable": allocatable,
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": facts.boot_id,
            "containerRuntimeVersion": "soft://1",
            "kernelVersion": facts.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": "v1.36.3",
            "machineID": facts.name,
            "operatingSystem": "linux",
            "osImage": "Soft node",
            "systemUUID": facts.name,
        },
    } })
}

/// What a node says of its readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeReady {
    Yes,
    No,
    Unknown,
}

/// Identity of a node's system.
pub(crate) struct NodeInfo<'a> {
    pub(crate) name: &'a str,
    pub(crate) boot_id: &'a str,
    pub(crate) kernel: &'a str,
}

/// A Lease in `kube-node-lease`, for server-side apply.
pub(crate) fn lease(node: &str, at: Timestamp) -> Value {
    // MicroTime has exactly six fractional digits.
    let renewed = format!("{at:.6}");
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": node, "namespace": "kube-node-lease" },
        "spec": { "holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": renewed },
    })
}
