//! Drivers that the host brings and has not loaded: a one-shot pod asks the host's own `modprobe` for them.

use std::time::Duration;

use cxi_api::{Phase, Reason, names::Role};

use crate::{
    action::Action,
    step::{Ctx, Next},
    world::PodState,
};

/// How long a pod that ended stays before the next try.
const AGAIN: Duration = Duration::from_secs(30);

/// Has the host load its driver. What is in its way, in one word, the pod's name, and in words; nothing while it is on its way.
pub fn load(ctx: &Ctx<'_>, next: &mut Next) -> Option<(Reason, String, String)> {
    let Some(pod) = ctx.pod(Role::HostDriver) else {
        if next.record.blocked_by.as_ref().is_some_and(|blocker| blocker.reason == Reason::PodNotRun) {
            // The verification begins again, time limit and all.
            next.enter(ctx, Phase::Verifying);
        }
        next.effects.push(Action::StartHostDriver {
            node: ctx.node.name.clone(),
            uid: ctx.node.uid.clone(),
            driver: ctx.driver.name.clone(),
        });
        return None;
    };
    let (reason, trouble) = match &pod.state {
        PodState::Pending { image } => {
            let trouble = image.as_ref()?.words().to_owned();
            return Some((Reason::PodNotRun, pod.name.clone(), trouble));
        }
        PodState::Running { .. } => return None,
        PodState::Succeeded { .. } => {
            let trouble = "modprobe succeeded on the host, but no module of the driver is loaded".to_owned();
            (Reason::HostDriverMissing, trouble)
        }
        PodState::Failed { message } => {
            (Reason::HostDriverMissing, format!("modprobe failed on the host: {}", message.trim()))
        }
        PodState::Unfinished { why } => {
            (Reason::PodNotRun, format!("the kubelet did not run the pod that has the host load its driver: {why}"))
        }
    };
    // The wait begins with a stored time, that of the blocker that names the pod: it is written anew for each pod, because
    // another one is started only after the record has named none.
    let said = next.record.blocked_by.as_ref().filter(|blocker| blocker.name == pod.name);
    if !pod.deleting && said.is_some_and(|blocker| ctx.due(blocker.since, AGAIN)) {
        next.effects.push(Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() });
    }
    Some((reason, pod.name.clone(), trouble))
}
