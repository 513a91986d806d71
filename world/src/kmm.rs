//! Our KMM Modules, and what KMM knows of their images.

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::kmm::{BUILD_POD_LABEL, MODULE_NAME_LABEL, NodeModule, PULL_POD_LABEL, TARGET_KERNEL_LABEL};
use cxi_rollout::world::{Image, ImageState, PodProblem, Revision};

use crate::{
    pod::{image_trouble, unscheduled},
    seen::{Images, Module, OwnPod, PodStatus},
};

/// A Module as a revision; `None` when its labels are not those that we set.
pub fn revision(
    name: &str,
    module: &Module,
    images: Option<&Images>,
    kernels: &BTreeSet<&str>,
    problems: &Problems<'_>,
    containerfile: bool,
) -> Option<Revision> {
    Some(Revision {
        driver: module.driver.as_deref()?.to_owned(),
        id: module.revision.clone()?,
        version: module.version.as_deref().unwrap_or_default().to_owned(),
        created: module.created,
        deleting: module.deleting,
        images: images.map(|images| by_kernel(name, images, kernels, problems)).unwrap_or_default(),
        containerfile,
    })
}

/// Image by kernel as the nodes spell it. KMM may spell a kernel without the `+` that a locally built one ends with.
pub fn by_kernel(
    module: &str,
    config: &Images,
    kernels: &BTreeSet<&str>,
    problems: &Problems<'_>,
) -> BTreeMap<String, Image> {
    let states: BTreeMap<&str, &str> =
        config.states.iter().map(|state| (state.image.as_str(), state.status.as_str())).collect();
    let listed: BTreeMap<&str, &str> =
        config.wanted.iter().map(|image| (image.kernel_version.as_str(), image.image.as_str())).collect();
    let find = |kernel: &str| listed.get(kernel).or_else(|| listed.get(kernel.trim_end_matches('+'))).copied();
    kernels
        .iter()
        .filter_map(|kernel| {
            let reference = find(kernel)?.to_owned();
            let state = match states.get(reference.as_str()) {
                Some(&"Exists") => ImageState::Exists,
                Some(&"DoesNotExist") => ImageState::Missing,
                Some(&"NeedsBuilding") => ImageState::Building,
                Some(&"NeedsSigning") => ImageState::Signing,
                _ => ImageState::Unknown,
            };
            let built = || problems.builds.get(&(module, kernel.trim_end_matches('+')));
            let problem = problems.pulls.get(reference.as_str()).or_else(built).cloned();
            Some(((*kernel).to_owned(), Image { reference, state, problem }))
        })
        .collect()
}

/// What keeps KMM's pods for images from their work.
#[derive(Debug, Default)]
pub struct Problems<'a> {
    /// Of pods that pull an image, by image.
    pulls: BTreeMap<&'a str, PodProblem>,
    /// Of pods that build or sign one, by Module and kernel.
    builds: BTreeMap<(&'a str, &'a str), PodProblem>,
}

impl<'a> Problems<'a> {
    /// Those of all of these pods.
    pub fn of(pods: impl IntoIterator<Item = &'a OwnPod>) -> Self {
        let mut problems = Self::default();
        for pod in pods {
            let Some(problem) = pod.status.as_ref().and_then(problem) else { continue };
            if pod.labels.get(PULL_POD_LABEL).is_some() {
                problems.pulls.extend(pod.image.as_deref().map(|image| (image, problem)));
            } else if pod.labels.get(BUILD_POD_LABEL).is_some() {
                let built = pod.labels.get(MODULE_NAME_LABEL).zip(pod.labels.get(TARGET_KERNEL_LABEL));
                problems.builds.extend(built.map(|built| (built, problem)));
            }
        }
        problems
    }
}

fn problem(status: &PodStatus) -> Option<PodProblem> {
    let pull = || image_trouble(status).map(|trouble| PodProblem::Pull(trouble.words().to_owned()));
    unscheduled(status).map(PodProblem::Unscheduled).or_else(pull)
}

/// Our Modules among those that KMM lists on a node.
pub fn ours(modules: &[NodeModule], namespace: &str) -> Vec<NodeModule> {
    modules.iter().filter(|module| module.namespace == namespace).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::given;
    use serde_json::json;

    #[test]
    fn images_by_the_kernels_of_the_nodes() {
        let config = given::<Images>(&json!({
            "metadata": {"name": "cxi-aaaa1111"},
            "spec": {"images": [
                {"image": "r/cxi:1-6.12_deb", "kernelVersion": "6.12+deb"},
                {"image": "r/cxi:1-6.1.0", "kernelVersion": "6.1.0"},
                {"image": "r/cxi:1-5", "kernelVersion": "5"},
                {"image": "r/cxi:1-7", "kernelVersion": "7"},
                {"image": "r/cxi:1-8", "kernelVersion": "8"},
            ]},
            "status": {"imagesStates": [
                {"image": "r/cxi:1-6.12_deb", "status": "Exists"},
                {"image": "r/cxi:1-5", "status": "DoesNotExist"},
                {"image": "r/cxi:1-7", "status": "NeedsBuilding"},
                {"image": "r/cxi:1-8", "status": "NeedsSigning"},
            ]},
        }));
        let config = config.readable().unwrap();
        let (pull, wait) = (PodProblem::Pull("ErrImagePull".into()), PodProblem::Unscheduled("0/3 nodes".into()));
        let problems = Problems {
            pulls: [("r/cxi:1-6.1.0", pull.clone())].into(),
            builds: [(("cxi-aaaa1111", "7"), wait.clone()), (("cxi-bbbb2222", "8"), pull.clone())].into(),
        };
        let images = by_kernel("cxi-aaaa1111", config, &["6.12+deb", "6.1.0+", "5", "4", "7", "8"].into(), &problems);
        let brief: Vec<_> = images.iter().map(|(kernel, i)| (kernel.as_str(), i.state, i.problem.as_ref())).collect();
        assert_eq!(
            brief,
            [
                ("5", ImageState::Missing, None),
                ("6.1.0+", ImageState::Unknown, Some(&pull)),
                ("6.12+deb", ImageState::Exists, None),
                ("7", ImageState::Building, Some(&wait)),
                ("8", ImageState::Signing, None),
            ]
        );
    }
}
