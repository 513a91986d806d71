//! The one-shot pod that pulls a driver image on a node and hands over its manifest: what the loaded modules will be held
//! against.

use std::{collections::BTreeMap, time::Duration};

use cxi_api::{NodeRollout, Reason, RevisionId, names::Role, node::Expected, transaction::WaitFor};
use cxi_driver_image_format::ImageManifest;

use crate::{
    action::Action,
    blocked::Blocked,
    transaction::{
        context::Ctx,
        decision::{Decision, GiveBack, Says, Stay},
    },
    world::{ImageTrouble, OwnPod, PodState},
};

/// How the one-shot pod gets on that pulls the images and hands over the manifest.
pub enum Prefetch {
    /// It ended: what the image says of itself, or nothing for a revision without an image.
    Done(Option<Expected>),
    /// It is under way.
    Running(Running),
    /// It has not run: the kubelet refused it or took it away, or does not get its image. It is tried again; why it did not, in words,
    /// or what the record says already.
    NotRun(Option<String>),
    /// It will not end: the image is not there, or is not what it should be; why.
    Trouble(String),
}

/// A pod under way.
#[derive(Default)]
pub struct Running {
    /// What is done for it.
    pub effects: Vec<Action>,
    /// Why it cannot be started yet.
    pub blocked: Option<Blocked>,
    /// Whether one that the kubelet did not run is gone: the next one is started.
    pub again: bool,
}

/// How long a pod that brought no manifest stays before another one is started.
const RETRY: Duration = Duration::from_mins(1);

/// What a record says of a pod that it does not name.
const NOT_RUN: &str = "the kubelet did not run the pod that brings the image";

/// What a node waits for whose pod gave no answer, or one that does not help.
pub fn waits(ctx: &Ctx<'_>, blocked: Blocked) -> Blocked {
    let uid = ctx.pod(Role::Prefetch).map(|pod| pod.uid.clone()).unwrap_or_default();
    let what = if blocked.reason == Reason::PodNotRun { WaitFor::PodNotRun } else { WaitFor::PodAnswer };
    blocked.awaits(what, uid)
}

/// Starts over a minute after the trouble was written down: the node may have rebooted into another kernel since the pod ran.
pub fn retry(ctx: &Ctx<'_>, record: &NodeRollout) -> Option<Action> {
    let of_pod = |what| matches!(what, WaitFor::PodNotRun | WaitFor::PodAnswer);
    let (pod, wait) = (ctx.pod(Role::Prefetch)?, record.wait.as_ref().filter(|wait| of_pod(wait.what))?);
    let over = wait.object == pod.uid && !pod.deleting && ctx.due(wait.since, RETRY);
    over.then(|| delete(pod))
}

fn delete(pod: &OwnPod) -> Action {
    Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() }
}

/// Says why the pod has not run, and after the time limit gives the node back. Nothing is known to be wrong with the
/// image: the pause before the next try does not grow, as it does for an image that is missing.
pub fn not_run(ctx: &Ctx<'_>, record: &NodeRollout, why: Option<String>) -> Decision {
    let blocked = |why: Option<String>| Blocked::new(Reason::PodNotRun, why.unwrap_or_else(|| NOT_RUN.into()));
    if ctx.due(record.since, ctx.settings.prefetch) {
        return Decision::GiveBack(GiveBack { why: blocked(why), steady: true, failure: false });
    }
    // One that waits for its image is tried again by the kubelet.
    let pod = ctx.pod(Role::Prefetch);
    let unfinished = pod.is_some_and(|pod| matches!(pod.state, PodState::Unfinished { .. }));
    let effects = Vec::from_iter(retry(ctx, record).filter(|_| unfinished));
    let says = if why.is_some() { Says::This(waits(ctx, blocked(why))) } else { Says::Same };
    Decision::Stay(Stay { says, effects })
}

/// A node whose pod is under way, unless it has been for too long.
pub fn in_time(ctx: &Ctx<'_>, record: &NodeRollout, running: Running) -> Decision {
    if ctx.due(record.since, ctx.settings.prefetch) {
        return not_run(ctx, record, Some("the driver image was not pulled in time".to_owned()));
    }
    let Running { effects, blocked, again } = running;
    let says = match blocked {
        Some(blocked) => Says::This(blocked),
        // The pause before the next pod begins with a wait that is written anew for each.
        None if again => Says::Nothing,
        None => Says::Same,
    };
    Decision::Stay(Stay { says, effects })
}

/// Writes down what an image says, and keeps what that of the revision before said.
pub fn remember(record: &mut NodeRollout, expected: Option<Expected>) {
    let of = |expected: &Option<Expected>| expected.as_ref().map(|expected| expected.revision.clone());
    if of(&expected) != of(&record.expected) && record.expected.is_some() {
        record.previous = record.expected.take();
    }
    record.expected = expected;
}

/// What the image of the revision that the node is brought to says, as it is known, or from a pod.
pub fn manifest(ctx: &Ctx<'_>, record: &NodeRollout) -> Prefetch {
    let goal = record.goal().map(RevisionId::as_str);
    let fits = |known: &&Expected| Some(known.revision.as_str()) == goal && known.kernel == ctx.node.kernel;
    let known = [&record.expected, &record.previous].into_iter().flatten().find(fits).cloned();
    known.map_or_else(|| images(ctx, record), |expected| Prefetch::Done(Some(expected)))
}

/// Sees to the pod that brings the images to the node, whatever is known of them: they may be gone from the registry and from the node
/// since, and without that of the present revision KMM cannot unload it. The manifest is that of the revision that the node is brought
/// to; where that has no image (a teardown, a driver that the host brings), of the present revision.
pub fn images(ctx: &Ctx<'_>, record: &NodeRollout) -> Prefetch {
    let kernel = &ctx.node.kernel;
    let module_of = |id: Option<&RevisionId>| id.and_then(|id| ctx.revision(id));
    let Some(module) = module_of(record.goal()).or_else(|| module_of(record.revision.as_ref())) else {
        return Prefetch::Done(None);
    };
    let Some(image) = module.images.get(kernel) else {
        let message = format!("KMM names no image of revision {} for kernel {kernel}", module.id);
        let blocked = Some(Blocked::new(Reason::ImageMissing, message));
        return Prefetch::Running(Running { blocked, ..Running::default() });
    };
    let did_not_run = record.wait.as_ref().is_some_and(|wait| wait.what == WaitFor::PodNotRun);
    match ctx.pod(Role::Prefetch) {
        Some(pod) if pod.deleting && did_not_run => Prefetch::NotRun(None),
        Some(pod) if pod.deleting => Prefetch::Running(Running::default()),
        Some(pod) if pod.revision.as_ref() != Some(&module.id) => {
            Prefetch::Running(Running { effects: vec![delete(pod)], ..Running::default() })
        }
        Some(pod) => answer(pod, &module.id, &image.reference, kernel),
        None if did_not_run => Prefetch::Running(Running { again: true, ..Running::default() }),
        None => {
            let old = record.revision.as_ref().filter(|old| **old != module.id);
            let old = old.and_then(|old| ctx.revision(old)).and_then(|old| old.images.get(kernel));
            let start = Action::StartPrefetch {
                node: ctx.node.name.clone(),
                uid: ctx.node.uid.clone(),
                driver: ctx.driver.name.clone(),
                spec: ctx.describing(&module.id),
                revision: module.id.clone(),
                image: image.reference.clone(),
                old_image: old.map(|old| old.reference.clone()),
            };
            Prefetch::Running(Running { effects: vec![start], ..Running::default() })
        }
    }
}

/// What a pod says.
fn answer(pod: &OwnPod, revision: &RevisionId, reference: &str, kernel: &str) -> Prefetch {
    match &pod.state {
        PodState::Succeeded { message } => {
            let (driver_version, build_ids) = match ImageManifest::parse(message) {
                Ok(manifest) if manifest.kernel == kernel => {
                    (Some(manifest.driver_version.clone()), manifest.build_ids())
                }
                Ok(manifest) => {
                    let other = manifest.kernel;
                    return Prefetch::Trouble(format!("image {reference} is for kernel {other}, not {kernel}"));
                }
                // A foreign image: verification then asks only that the build-ids changed.
                Err(_) if message.trim().is_empty() => (None, BTreeMap::new()),
                Err(error) => return Prefetch::Trouble(format!("image {reference}: {error}")),
            };
            let (revision, kernel) = (revision.to_string(), kernel.to_owned());
            Prefetch::Done(Some(Expected { revision, kernel, driver_version, build_ids }))
        }
        PodState::Failed { message, .. } => Prefetch::Trouble(format!("image {reference}: {message}")),
        PodState::Unfinished { why } => Prefetch::NotRun(Some(format!("{NOT_RUN}: {why}"))),
        PodState::Pending { image: Some(ImageTrouble::Missing(words)) } => Prefetch::Trouble(words.clone()),
        PodState::Pending { image: Some(ImageTrouble::Unpulled(words)) } => Prefetch::NotRun(Some(words.clone())),
        PodState::Pending { .. } | PodState::Running { .. } => Prefetch::Running(Running::default()),
    }
}
