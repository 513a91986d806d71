//! Our KMM Modules, and what KMM knows of their images.

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::kmm::NodeModule;
use cxi_rollout::world::{Image, ImageState, Revision};

use crate::observe::{
    pod::{PULL_POD_LABEL, image_trouble},
    seen::{Images, Module, OwnPod},
};

/// A Module as a revision; `None` when its labels are not those that we set.
pub fn revision(
    module: &Module,
    images: Option<&Images>,
    kernels: &BTreeSet<&str>,
    problems: &BTreeMap<String, String>,
    containerfile: bool,
) -> Option<Revision> {
    Some(Revision {
        driver: module.driver.as_deref()?.to_owned(),
        id: module.revision.clone()?,
        version: module.version.as_deref().unwrap_or_default().to_owned(),
        created: module.created,
        deleting: module.deleting,
        images: images.map(|images| by_kernel(images, kernels, problems)).unwrap_or_default(),
        containerfile,
    })
}

/// Image by kernel as the nodes spell it. KMM may spell a kernel without the `+` that a locally built one ends with.
fn by_kernel(
    config: &Images,
    kernels: &BTreeSet<&str>,
    problems: &BTreeMap<String, String>,
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
            let problem = problems.get(&reference).cloned();
            Some(((*kernel).to_owned(), Image { reference, state, problem }))
        })
        .collect()
}

/// What keeps KMM's pull pods from their images, by image.
pub fn pull_problems<'a>(pods: impl IntoIterator<Item = &'a OwnPod>) -> BTreeMap<String, String> {
    pods.into_iter()
        .filter(|pod| pod.labels.get(PULL_POD_LABEL).is_some())
        .filter_map(|pod| {
            let trouble = image_trouble(pod.status.as_ref()?)?;
            Some((pod.image.as_deref()?.to_owned(), trouble.words().to_owned()))
        })
        .collect()
}

/// Our Modules among those that KMM lists on a node.
pub fn ours(modules: &[NodeModule], namespace: &str) -> Vec<NodeModule> {
    modules.iter().filter(|module| module.namespace == namespace).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::seen::given;
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
        let problems = [("r/cxi:1-6.1.0".to_owned(), "ErrImagePull".to_owned())].into();
        let images = by_kernel(config, &["6.12+deb", "6.1.0+", "5", "4", "7", "8"].into(), &problems);
        let brief: Vec<_> = images.iter().map(|(kernel, i)| (kernel.as_str(), i.state, i.problem.as_deref())).collect();
        assert_eq!(
            brief,
            [
                ("5", ImageState::Missing, None),
                ("6.1.0+", ImageState::Unknown, Some("ErrImagePull")),
                ("6.12+deb", ImageState::Exists, None),
                ("7", ImageState::Building, None),
                ("8", ImageState::Signing, None),
            ]
        );
    }
}
