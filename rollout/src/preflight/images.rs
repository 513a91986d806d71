//! What a CXIPreflight says of images.

use std::collections::BTreeSet;

use cxi_api::preflight::{ImageResult, KernelImage};

use crate::{
    builds::builds_for,
    driver::scope::{Member, Scope},
    world::{Candidate, Image, ImageState, PodProblem, Preflight},
};

/// The kernels that it answers for: those of its spec, or those of the CXIDriver's nodes, and that of the canary node.
pub fn kernels<'a>(members: &'a [Member<'_>], preflight: &'a Preflight) -> BTreeSet<&'a str> {
    let mut kernels: BTreeSet<&str> = preflight.spec.kernels.iter().map(String::as_str).collect();
    if kernels.is_empty() {
        kernels = members.iter().map(|member| member.node.kernel.as_str()).collect();
    }
    let canary = preflight.status.node.as_ref();
    let canary = canary.and_then(|canary| members.iter().find(|member| member.node.uid == canary.uid));
    kernels.extend(canary.map(|member| member.node.kernel.as_str()));
    kernels.retain(|kernel| !kernel.is_empty());
    kernels
}

/// Those of them that KMM has to be asked about for this object alone. KMM builds the images of kernels that nodes run for the
/// Module, and two builds of one image would be in each other's way.
pub fn to_ask(members: &[Member<'_>], preflight: &Preflight, candidate: &Candidate) -> Vec<String> {
    let in_use: BTreeSet<&str> = members.iter().map(|member| member.node.kernel.as_str()).collect();
    let by_module = |kernel: &str| in_use.contains(kernel) && builds_for(&candidate.spec.source, kernel);
    let asked = kernels(members, preflight).into_iter();
    asked.filter(|kernel| preflight.mapped.contains_key(*kernel) && !by_module(kernel)).map(str::to_owned).collect()
}

/// What is known of the images.
pub fn answers(
    scope: &Scope<'_>,
    members: &[Member<'_>],
    preflight: &Preflight,
    candidate: &Candidate,
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
        let image = by_question.or(by_module);
        let (result, message) = image.map_or((ImageResult::Checking, None), |image| judge(image, candidate, kernel));
        KernelImage { kernel: kernel.to_owned(), image: Some(reference.clone()), result, message }
    };
    kernels(members, preflight).into_iter().map(answer).collect()
}

fn judge(image: &Image, candidate: &Candidate, kernel: &str) -> (ImageResult, Option<String>) {
    let source = &candidate.spec.source;
    match image.state {
        ImageState::Exists => (ImageResult::Found, None),
        ImageState::Building => (ImageResult::Building, Some("KMM is building it".to_owned())),
        ImageState::Signing => (ImageResult::Building, Some("KMM is signing its modules".to_owned())),
        ImageState::Missing if builds_for(source, kernel) => {
            let message = "the build failed: KMM keeps the failed build, whose output ends with the reason";
            (ImageResult::Missing, Some(message.to_owned()))
        }
        ImageState::Missing if source.builds() => {
            let message = "KMM does not build it, because it is not known for sure whose kernel this is: name the image to build in in \
                           source.builderImage, or build and push it";
            (ImageResult::Missing, Some(message.to_owned()))
        }
        ImageState::Missing => (ImageResult::Missing, Some("build and push it".to_owned())),
        ImageState::Unknown => {
            let words = image.problem.as_ref().map(|problem| match problem {
                PodProblem::Pull(words) => format!("KMM cannot pull it: {words}"),
                PodProblem::Unscheduled(words) => format!("KMM's pod finds no node: {words}"),
            });
            (ImageResult::Checking, words)
        }
    }
}
