//! What a CXIPreflight says of images.

use std::collections::BTreeSet;

use cxi_api::preflight::{ImageResult, KernelImage};

use crate::{
    driver::scope::{Member, Scope},
    intent::Intent,
    world::{Image, ImageState, PodProblem, Preflight},
};

/// The kernels that it answers for: those of its spec, or those of the CXIDriver's nodes, and those of the nodes that may be the canary
/// node. What it began to answer for stays.
pub fn kernels<'a>(members: &'a [Member<'_>], preflight: &'a Preflight) -> BTreeSet<&'a str> {
    let spec = &preflight.spec;
    if !preflight.status.kernels.is_empty() {
        return preflight.status.kernels.iter().map(|known| known.kernel.as_str()).collect();
    }
    let mut kernels: BTreeSet<&str> = spec.kernels.iter().map(String::as_str).collect();
    let fits = |member: &&Member<'_>| match &spec.node {
        Some(name) => member.node.name == *name,
        None => spec.has_node() && member.node.carries(&spec.node_selector),
    };
    let all = kernels.is_empty();
    kernels.extend(members.iter().filter(|member| all || fits(member)).map(|member| member.node.kernel.as_str()));
    kernels.retain(|kernel| !kernel.is_empty());
    kernels
}

/// Those of them that KMM has to be asked about for this object alone. KMM builds the images of kernels that nodes run for the
/// Module, and two builds of one image would be in each other's way.
pub fn to_ask(members: &[Member<'_>], preflight: &Preflight, candidate: &Intent<'_>) -> Vec<String> {
    let in_use: BTreeSet<&str> = members.iter().map(|member| member.node.kernel.as_str()).collect();
    let by_module = |kernel: &str| in_use.contains(kernel) && candidate.source.builds_for(kernel);
    let asked = kernels(members, preflight).into_iter();
    asked.filter(|kernel| preflight.mapped.contains_key(*kernel) && !by_module(kernel)).map(str::to_owned).collect()
}

/// What is known of the images.
pub fn answers(
    scope: &Scope<'_>,
    members: &[Member<'_>],
    preflight: &Preflight,
    candidate: &Intent<'_>,
) -> Vec<KernelImage> {
    let answer = |kernel: &str| {
        let Some(reference) = preflight.mapped.get(kernel) else {
            // KMM refuses such a name, whatever is mapped.
            let message = if kernel.split(['.', ',', '-']).count() < 3 {
                "KMM takes only kernels whose name has three parts, such as 6.12.1: correct spec.kernels"
            } else {
                "no entry of source.kernelMappings fits this kernel, and source.image is not set: add an entry"
            };
            return KernelImage {
                kernel: kernel.to_owned(),
                image: None,
                result: ImageResult::NoMapping,
                message: Some(message.to_owned()),
            };
        };
        let by_module = scope.revision(&candidate.revision).and_then(|module| module.images.get(kernel));
        let by_question = preflight.images.as_ref().and_then(|images| images.get(kernel));
        // What was asked for this object is an answer of the registry; a node may have an image from before.
        let image = by_question.filter(|image| image.reference == *reference).or(by_module);
        let (result, message) = image.map_or((ImageResult::Checking, None), |image| judge(image, candidate, kernel));
        KernelImage { kernel: kernel.to_owned(), image: Some(reference.clone()), result, message }
    };
    kernels(members, preflight).into_iter().map(answer).collect()
}

fn judge(image: &Image, candidate: &Intent<'_>, kernel: &str) -> (ImageResult, Option<String>) {
    let source = candidate.source;
    match image.state {
        ImageState::Exists => (ImageResult::Found, None),
        ImageState::Building => (ImageResult::Building, Some(doing(image, "KMM is building it"))),
        ImageState::Signing => (ImageResult::Building, Some(doing(image, "KMM is signing its modules"))),
        ImageState::Missing if source.builds_for(kernel) => {
            let message = "the build failed: KMM keeps the failed build, whose output ends with the reason";
            (ImageResult::Missing, Some(message.to_owned()))
        }
        ImageState::Missing if source.builds() => {
            let message = "KMM does not build it, because it is not known for sure whose kernel this is: name the image to build in in \
                           source.builderImage, or build and push it";
            (ImageResult::Missing, Some(message.to_owned()))
        }
        ImageState::Missing => {
            let message =
                "build and push it, or see whether the registry lets it be pulled with source.imagePullSecret";
            (ImageResult::Missing, Some(message.to_owned()))
        }
        ImageState::Unknown => {
            // In words that do not change from one look to the next.
            let words = image.problem.as_ref().map(|problem| match problem {
                PodProblem::Pull(_) => "KMM cannot pull it yet, see its pod",
                PodProblem::Unscheduled(_) => NO_NODE,
            });
            let words = words.map(str::to_owned);
            (ImageResult::Checking, words)
        }
    }
}

/// What is said of a pod that the scheduler finds no node for.
const NO_NODE: &str = "KMM's pod for it finds no node, see the pod";

/// What KMM does for an image, and that it cannot, where that is so.
fn doing(image: &Image, words: &str) -> String {
    if matches!(image.problem, Some(PodProblem::Unscheduled(_))) { NO_NODE.to_owned() } else { words.to_owned() }
}
