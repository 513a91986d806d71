//! Drivers that the host brings and has not loaded: a one-shot pod asks the host's own `modprobe` for them.

use std::time::Duration;

use cxi_api::{NodeRollout, Reason, names::Role, transaction::WaitFor};

use crate::{action::Action, blocked::Blocked, transaction::context::Ctx, world::PodState};

/// How long a pod that ended stays before the next try.
const RETRY: Duration = Duration::from_secs(30);

/// How the host gets on with its driver.
pub enum HostDriver {
    /// It is being asked.
    Asked(Vec<Action>),
    /// What is in the way, and what is done about it.
    Trouble(Blocked, Vec<Action>),
    /// A pod that the kubelet did not run is gone: the verification begins again, time limit and all.
    Again,
}

/// Has the host load its driver.
pub fn load(ctx: &Ctx<'_>, record: &NodeRollout) -> HostDriver {
    let Some(pod) = ctx.pod(Role::HostDriver) else {
        if record.wait.as_ref().is_some_and(|wait| wait.what == WaitFor::PodNotRun) {
            return HostDriver::Again;
        }
        return HostDriver::Asked(vec![Action::StartHostDriver {
            node: ctx.node.name.clone(),
            uid: ctx.node.uid.clone(),
            driver: ctx.driver.name.clone(),
            spec: ctx.intent.for_manifests(),
        }]);
    };
    let (reason, trouble) = match &pod.state {
        PodState::Pending { image: Some(image) } => (Reason::PodNotRun, image.words().to_owned()),
        PodState::Pending { image: None } | PodState::Running { .. } => return HostDriver::Asked(Vec::new()),
        PodState::Succeeded { .. } => {
            let trouble = "modprobe succeeded on the host, but no module of the driver is loaded".to_owned();
            (Reason::HostDriverMissing, trouble)
        }
        PodState::Failed { message, .. } => {
            (Reason::HostDriverMissing, format!("modprobe failed on the host: {}", message.trim()))
        }
        PodState::Unfinished { why } => {
            (Reason::PodNotRun, format!("the kubelet did not run the pod that has the host load its driver: {why}"))
        }
    };
    let waits = if reason == Reason::PodNotRun { WaitFor::PodNotRun } else { WaitFor::PodAnswer };
    let blocked = Blocked::new(reason, trouble).on("Pod", &pod.name).awaits(waits, &pod.uid);
    // One that waits for its image is tried again by the kubelet.
    let ended = !matches!(pod.state, PodState::Pending { .. });
    let over =
        record.wait.as_ref().filter(|wait| wait.object == pod.uid).is_some_and(|wait| ctx.due(wait.since, RETRY));
    let effects =
        (ended && !pod.deleting && over).then(|| Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() });
    HostDriver::Trouble(blocked, effects.into_iter().collect())
}
