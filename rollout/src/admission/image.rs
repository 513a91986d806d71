//! What is wrong with driver images, in words.

use cxi_api::{Reason, RevisionId, names::module_name};

use crate::{
    blocked::Blocked,
    driver::scope::{Member, Scope},
    fleet::revisions,
    maps::Set,
    world::{Image, ImageState, Node, PodProblem},
};

/// The first node for whose kernel something is wrong with the image of the revision that the driver moves to, and what.
pub fn of_fleet<'a>(scope: &Scope<'_>, members: &[Member<'a>]) -> Option<(&'a Node, Blocked)> {
    let mut asked = Set::default();
    let moving = members.iter().filter(|member| member.wanted.as_ref() == Some(&scope.intent.revision));
    let mut kernels = moving.map(|member| member.node).filter(|node| asked.insert(node.kernel_place));
    kernels.find_map(|node| Some((node.node(), of(scope, node, &scope.intent.revision)?)))
}

/// What is wrong with a revision's image for a node's kernel.
pub fn of(scope: &Scope<'_>, node: &Node, wanted: &RevisionId) -> Option<Blocked> {
    if scope.intent.is_preinstalled() && *wanted == scope.intent.revision {
        return None;
    }
    let because = |reason, message: String| Some(Blocked::new(reason, message).on("Module", module_name(wanted)));
    let say = |message| because(Reason::ImageMissing, message);
    // The same words while the Module is made, while KMM looks for an image and while it pulls it: a record is not rewritten for that.
    let target = (*wanted == scope.intent.revision).then_some(scope.intent.version);
    let found = scope.revision(wanted);
    let version = found.map(|known| known.version.as_str()).or(target);
    let release = || version.map_or_else(|| format!("revision {wanted}"), |version| format!("release {version}"));
    let waits =
        || format!("the node waits until KMM has verified an image of {} for kernel {}", release(), node.kernel);
    let refused = scope.driver.module_refused.as_ref().filter(|_| *wanted == scope.intent.revision);
    let Some(revision) = found else {
        if let Some(other) = scope.world.taken_by(&scope.driver.name, wanted) {
            return say(revisions::names_meet(wanted, other));
        }
        return match refused {
            Some(why) => say(format!("the API server refuses Module cxi-{wanted}: {why}")),
            None => because(Reason::ImageUnverified, waits()),
        };
    };
    // An image that is there is needed no more.
    let exists = |image: &Image| image.state == ImageState::Exists;
    let image = revision.images.get(&node.kernel);
    if let Some(why) = refused.filter(|_| !revision.containerfile && !image.is_some_and(exists)) {
        return say(format!("no image of revision {wanted} can be built: {why}"));
    }
    let Some(image) = image else {
        return because(Reason::ImageUnverified, waits());
    };
    let unscheduled = matches!(image.problem, Some(PodProblem::Unscheduled(_)));
    let doing = |reason, doing: &str| {
        let (reference, kernel) = (&image.reference, &node.kernel);
        because(
            reason,
            if unscheduled {
                format!(
                    "KMM's pod for {doing} image {reference} (kernel {kernel}) finds no node, see the condition PreflightPassed"
                )
            } else {
                format!("KMM is {doing} image {reference} (kernel {kernel}); the operator touches no node before")
            },
        )
    };
    match image.state {
        ImageState::Exists => None,
        ImageState::Building => doing(Reason::ImageMissing, "building"),
        ImageState::Signing => doing(Reason::ImageMissing, "signing"),
        ImageState::Unknown if unscheduled => doing(Reason::ImageUnverified, "pulling"),
        ImageState::Missing if scope.intent.source.builds_for(&node.kernel) => say(format!(
            "the build of image {} (kernel {}) failed: KMM keeps the failed build, whose output ends with the reason; remove \
             the cause, then delete the build for KMM to start another",
            image.reference, node.kernel
        )),
        ImageState::Missing if scope.intent.source.builds() => say(format!(
            "image {} does not exist and KMM does not build it, because it is not known for sure whose kernel {} is: name the image \
             to build in in source.builderImage, or build and push it",
            image.reference, node.kernel
        )),
        ImageState::Missing => {
            say(format!("image {} (kernel {}) does not exist: build and push it", image.reference, node.kernel))
        }
        ImageState::Unknown => {
            let problem = image.problem.as_ref();
            match problem {
                Some(PodProblem::Pull(problem)) => say(format!(
                    "image {} (kernel {}) cannot be pulled: {problem}; push it, or correct spec.version or spec.source",
                    image.reference, node.kernel
                )),
                _ => because(Reason::ImageUnverified, waits()),
            }
        }
    }
}
