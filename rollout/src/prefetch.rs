//! The one-shot pod that pulls a driver image on a node and hands over its manifest: what the loaded modules will be held
//! against.

use std::{collections::BTreeMap, time::Duration};

use cxi_api::{ImageManifest, NodeRollout, Phase, Reason, RevisionId, names::Role, node::Expected};

use crate::{
    action::Action,
    settled,
    step::{Ctx, Next},
    world::{ImageTrouble, PodState},
};

/// How the one-shot pod gets on that pulls the images and hands over the manifest.
pub enum Prefetch {
    /// It ended: what the image says of itself, or nothing for a revision without an image.
    Done(Option<Expected>),
    /// It is under way.
    Running,
    /// It has not run: the kubelet refused it or took it away, or does not get its image. It is tried again; why it did not.
    NotRun(String),
    /// It will not end: the image is not there, or is not what it should be; why.
    Trouble(String),
}

/// How long a pod that brought no manifest stays before another one is started, where there is no way back to be tried.
const RETRY: Duration = Duration::from_mins(1);

/// Starts over a minute after the trouble was written down: the node may have rebooted into another kernel since the pod ran.
pub fn retry(ctx: &Ctx<'_>, next: &mut Next) {
    let about_pod = |reason| matches!(reason, Reason::ImageMissing | Reason::PodNotRun);
    let marked = next.record.blocked_by.as_ref().filter(|blocker| about_pod(blocker.reason));
    let (Some(pod), Some(blocker)) = (ctx.pod(Role::Prefetch), marked) else { return };
    if !pod.deleting && ctx.due(blocker.since, RETRY) {
        next.effects.push(Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() });
    }
}

/// Says why the pod has not run, and after the time limit gives the node back. Nothing is known to be wrong with the
/// image: the pause before the next try does not grow, as it does for an image that is missing.
pub fn not_run(ctx: &Ctx<'_>, next: &mut Next, why: String) {
    if ctx.due(next.record.since, ctx.settings.prefetch) {
        next.give_back(ctx, Reason::PodNotRun, ("", ""), why);
        let pause = ctx.now.checked_add(ctx.settings.back_off).ok();
        next.record.retry_after = next.record.retry_after.min(pause);
        return;
    }
    // One that waits for its image is tried again by the kubelet.
    if ctx.pod(Role::Prefetch).is_some_and(|pod| matches!(pod.state, PodState::Unfinished { .. })) {
        retry(ctx, next);
    }
    settled::explain(ctx, next, Reason::PodNotRun, ("", ""), why);
}

/// See [`not_run`], of a pod that does not end.
pub fn late(ctx: &Ctx<'_>, next: &mut Next) {
    if ctx.due(next.record.since, ctx.settings.prefetch) {
        not_run(ctx, next, "the driver image was not pulled in time".to_owned());
    }
}

/// Writes down what an image says, and keeps what that of the revision before said.
pub fn remember(record: &mut NodeRollout, expected: Option<Expected>) {
    let of = |expected: &Option<Expected>| expected.as_ref().map(|expected| expected.revision.clone());
    if of(&expected) != of(&record.expected) && record.expected.is_some() {
        record.previous = record.expected.take();
    }
    record.expected = expected;
}

/// What the image of the transaction's goal says, as it is known, or from a pod.
pub fn manifest(ctx: &Ctx<'_>, next: &mut Next) -> Prefetch {
    let record = &next.record;
    let goal = record.goal.as_ref().map(RevisionId::as_str);
    let fits = |known: &&Expected| Some(known.revision.as_str()) == goal && known.kernel == ctx.node.kernel;
    let known = [&record.expected, &record.previous].into_iter().flatten().find(fits).cloned();
    known.map_or_else(|| images(ctx, next), |expected| Prefetch::Done(Some(expected)))
}

/// Sees to the pod that brings the images to the node, whatever is known of them: they may be gone from the registry and from the node
/// since, and without that of the present revision KMM cannot unload it. The manifest is that of the transaction's goal; where that
/// has no image (a teardown, a driver that the host brings), of the present revision.
pub fn images(ctx: &Ctx<'_>, next: &mut Next) -> Prefetch {
    let kernel = &ctx.node.kernel;
    let module_of = |id: &Option<RevisionId>| id.as_ref().and_then(|id| ctx.revision(id));
    let Some(module) = module_of(&next.record.goal).or_else(|| module_of(&next.record.revision)) else {
        return Prefetch::Done(None);
    };
    let Some(image) = module.images.get(kernel) else {
        let message = format!("KMM names no image of revision {} for kernel {kernel}", module.id);
        settled::explain(ctx, next, Reason::ImageMissing, ("", ""), message);
        return Prefetch::Running;
    };
    let pod = ctx.pod(Role::Prefetch);
    match pod {
        Some(pod) if pod.deleting => match not_run_before(&next.record) {
            Some(why) => Prefetch::NotRun(why.to_owned()),
            None => Prefetch::Running,
        },
        Some(pod) if pod.revision.as_ref() != Some(&module.id) => {
            next.effects.push(Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() });
            Prefetch::Running
        }
        Some(pod) => match &pod.state {
            PodState::Succeeded { message } => {
                let (driver_version, build_ids) = match ImageManifest::parse(message) {
                    Ok(manifest) if manifest.kernel == *kernel => {
                        (Some(manifest.driver_version.clone()), manifest.build_ids())
                    }
                    Ok(manifest) => {
                        let (reference, other) = (&image.reference, manifest.kernel);
                        return Prefetch::Trouble(format!("image {reference} is for kernel {other}, not {kernel}"));
                    }
                    // A foreign image: verification then asks only that the build-ids changed.
                    Err(_) if message.trim().is_empty() => (None, BTreeMap::new()),
                    Err(error) => return Prefetch::Trouble(format!("image {}: {error}", image.reference)),
                };
                let revision = module.id.to_string();
                Prefetch::Done(Some(Expected { revision, kernel: kernel.clone(), driver_version, build_ids }))
            }
            PodState::Failed { message } => Prefetch::Trouble(format!("image {}: {message}", image.reference)),
            PodState::Unfinished { why } => {
                Prefetch::NotRun(format!("the kubelet did not run the pod that brings the image: {why}"))
            }
            PodState::Pending { image: Some(ImageTrouble::Missing(words)) } => Prefetch::Trouble(words.clone()),
            PodState::Pending { image: Some(ImageTrouble::Unpulled(words)) } => Prefetch::NotRun(words.clone()),
            PodState::Pending { .. } | PodState::Running { .. } => Prefetch::Running,
        },
        // The pause before the next pod begins with a blocker that is written anew for each. A verification begins again, time limit
        // and all.
        None if not_run_before(&next.record).is_some() => {
            if next.record.phase == Phase::Verifying {
                next.enter(ctx, Phase::Verifying);
            } else {
                next.unblock();
            }
            Prefetch::Running
        }
        None => {
            let old = next.record.revision.as_ref().filter(|old| **old != module.id);
            let old = old.and_then(|old| ctx.revision(old)).and_then(|old| old.images.get(kernel));
            next.effects.push(Action::StartPrefetch {
                node: ctx.node.name.clone(),
                uid: ctx.node.uid.clone(),
                driver: ctx.driver.name.clone(),
                revision: module.id.clone(),
                image: image.reference.clone(),
                old_image: old.map(|old| old.reference.clone()),
            });
            Prefetch::Running
        }
    }
}

/// What was said of a pod that has not run.
fn not_run_before(record: &NodeRollout) -> Option<&str> {
    let blocker = record.blocked_by.as_ref().filter(|blocker| blocker.reason == Reason::PodNotRun)?;
    Some(&blocker.message)
}
