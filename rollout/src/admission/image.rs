//! What is wrong with driver images, in words.

use cxi_api::{Reason, RevisionId, names::module_name};

use crate::{
    blocked::Blocked,
    builds::builds_for,
    driver::scope::{Member, Scope},
    world::{Image, ImageState, Node, PodProblem},
};

/// What is wrong with the images of the revision that the driver moves to, over the kernels of all its nodes.
pub fn of_fleet(scope: &Scope<'_>, members: &[Member<'_>]) -> Option<Blocked> {
    if !scope.driver.spec.preflight.required {
        return None;
    }
    let target = &scope.target;
    members
        .iter()
        .filter(|member| member.wanted.as_ref() == Some(target))
        .find_map(|member| of(scope, member.node, target))
}

/// What is wrong with a revision's image for a node's kernel.
pub fn of(scope: &Scope<'_>, node: &Node, wanted: &RevisionId) -> Option<Blocked> {
    if scope.is_preinstalled() && *wanted == scope.target {
        return None;
    }
    let because = |reason, message: String| Some(Blocked::new(reason, message).on("Module", module_name(wanted)));
    let say = |message| because(Reason::ImageMissing, message);
    // The same words while the Module is made, while KMM looks for an image and while it pulls it: a record is not rewritten for that.
    let target = (*wanted == scope.target).then_some(&scope.driver.spec.version);
    let version = scope.revision(wanted).map(|known| &known.version).or(target);
    let release = version.map_or_else(|| format!("revision {wanted}"), |version| format!("release {version}"));
    let waits = || format!("the node waits until KMM has verified an image of {release} for kernel {}", node.kernel);
    let refused = scope.driver.module_refused.as_ref().filter(|_| *wanted == scope.target);
    let Some(revision) = scope.revision(wanted) else {
        if let Some(other) = scope.world.taken_by(&scope.driver.name, wanted) {
            return say(format!(
                "Module cxi-{wanted} belongs to CXIDriver {other}: names of revisions are short, and these two meet. Change \
                 anything in spec.source, such as a parameter of a module, for another name"
            ));
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
        ImageState::Missing if builds_for(&scope.driver.spec.source, &node.kernel) => say(format!(
            "the build of image {} (kernel {}) failed: KMM keeps the failed build, whose output ends with the reason; remove \
             the cause, then delete the build for KMM to start another",
            image.reference, node.kernel
        )),
        ImageState::Missing if scope.driver.spec.source.builds() => say(format!(
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
