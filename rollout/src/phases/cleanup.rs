//! The one-shot pod that takes out what a failed load (or the host) left in the kernel.

use std::time::Duration;

use cxi_api::{NodeRollout, Phase, Reason, names::Role, transaction::WaitFor};

use crate::{
    action::Action,
    blocked::Blocked,
    transaction::{context::Ctx, decision::Decision},
    world::PodState,
};

/// How long modules may still be reported after KMM is done before they are taken for leftovers.
const LINGER: Duration = Duration::from_secs(5);

/// How long a pod that succeeded stays before another one is started, because modules are still there.
const SUCCEEDED: Duration = Duration::from_secs(20);

/// How long a pod that the kubelet did not run stays before another one is started.
const RETRY: Duration = Duration::from_mins(1);

/// How the pod gets on.
pub enum Cleanup {
    /// It is on its way; what is done for it.
    UnderWay(Vec<Action>),
    /// What it makes of the step.
    Settled(Decision),
}

/// Sees to the pod that takes out `modules`.
pub fn of(ctx: &Ctx<'_>, record: &NodeRollout, modules: &[String]) -> Cleanup {
    let names = modules.join(", ");
    let wait = record.wait.as_ref();
    let not_run = wait.filter(|wait| wait.what == WaitFor::PodNotRun);
    let Some(pod) = ctx.pod(Role::Cleanup) else {
        // The step begins again, time limits and all.
        if not_run.is_some() {
            return Cleanup::Settled(Decision::enter(Phase::Unloading));
        }
        // A report may be a moment older than what KMM did last; the wait starts with a stored time.
        let marked = wait.filter(|wait| wait.what == WaitFor::Leftovers);
        let starts = marked.is_some_and(|wait| ctx.due(wait.since, LINGER));
        return Cleanup::UnderWay(Vec::from_iter(starts.then(|| Action::StartCleanup {
            node: ctx.node.name.clone(),
            uid: ctx.node.uid.clone(),
            driver: ctx.driver.name.clone(),
            spec: ctx.intent.for_manifests(),
            modules: modules.to_vec(),
        })));
    };
    let delete = || Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() };
    let blocked = |message: String| {
        Blocked::new(Reason::PodNotRun, message).on("Pod", &pod.name).awaits(WaitFor::PodNotRun, &pod.uid)
    };
    if pod.deleting {
        return if not_run.is_some() { Cleanup::Settled(Decision::stay()) } else { Cleanup::UnderWay(Vec::new()) };
    }
    match &pod.state {
        // A pod that the kubelet did not run says nothing of the modules; another one is started after a pause.
        PodState::Unfinished { why } => {
            let message = format!("the kubelet did not run the pod that takes out modules {names}: {why}");
            let over = not_run.is_some_and(|wait| ctx.due(wait.since, RETRY));
            Cleanup::Settled(Decision::wait(blocked(message)).with(over.then(delete)))
        }
        PodState::Pending { image } if image.is_some() || ctx.due_on_node(record.since, ctx.settings.unload) => {
            let why = image.as_ref().map_or("the kubelet has not started it", |image| image.words());
            Cleanup::Settled(Decision::wait(blocked(format!(
                "the pod that takes out modules {names} does not run: {why}"
            ))))
        }
        PodState::Failed { message, .. } => Cleanup::Settled(Decision::Quarantine(format!(
            "modules {names} cannot be taken out: {message}; reboot the node"
        ))),
        PodState::Succeeded { .. } if ctx.due(record.since, SUCCEEDED) => Cleanup::UnderWay(vec![delete()]),
        PodState::Pending { .. } | PodState::Running { .. } | PodState::Succeeded { .. } => {
            Cleanup::UnderWay(Vec::new())
        }
    }
}
