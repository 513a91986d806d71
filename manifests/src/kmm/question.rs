//! What KMM is asked about for a CXIPreflight: images that no node needs yet.

use cxi_api::{
    CXIDriverSpec, CXIPreflight, RevisionId,
    kmm::{ModuleImage, ModuleImagesConfig, ModuleImagesConfigSpec, ModuleKernelMapping},
    names::question_name,
};
use k8s_openapi::{
    api::core::v1::LocalObjectReference,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;
use regex::Regex;

use super::{containerfile::tls, module::kernel_mappings};
use crate::labels::labels;

/// The image of a kernel, as KMM would choose it; none where nothing fits.
///
/// KMM takes the first mapping that fits, and its expressions may fit any part of the kernel's name (`internal/module/kernelmapper.go`).
/// An expression that cannot be read here fits nothing.
pub fn image_for(spec: &CXIDriverSpec, revision: &RevisionId, kernel: &str) -> Option<ModuleImage> {
    let fits = |mapping: &ModuleKernelMapping| {
        let literal = mapping.literal.as_deref().filter(|literal| !literal.is_empty());
        let matches = |expression: &String| Regex::new(expression).is_ok_and(|expression| expression.is_match(kernel));
        literal == Some(kernel) || literal.is_none() && mapping.regexp.as_ref().is_some_and(matches)
    };
    let mapping = kernel_mappings(spec, revision).into_iter().find(fits)?;
    // KMM spells a kernel without the `+` that no tag may have (`internal/module/kernelmapper.go`, `internal/utils`).
    let tag = kernel.replace('+', "_");
    let plain = kernel.trim_end_matches('+');
    let image = mapping.container_image.replace("${KERNEL_FULL_VERSION}", &tag).replace("${KERNEL_VERSION}", &tag);
    Some(ModuleImage {
        image,
        kernel_version: plain.to_owned(),
        build: mapping.build,
        sign: mapping.sign,
        skip_wait_missing_image: true,
        registry_tls: tls(&spec.source),
    })
}

/// The question. It goes with the CXIPreflight, which owns it.
pub fn question(
    preflight: &str,
    uid: &str,
    driver: &str,
    spec: &CXIDriverSpec,
    revision: &RevisionId,
    kernels: &[String],
    namespace: &str,
) -> ModuleImagesConfig {
    let owner = OwnerReference {
        api_version: CXIPreflight::api_version(&()).into_owned(),
        kind: CXIPreflight::kind(&()).into_owned(),
        name: preflight.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        name: Some(question_name(uid)),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels(driver)),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let secret = spec.source.image_pull_secret.clone();
    let spec = ModuleImagesConfigSpec {
        images: kernels.iter().filter_map(|kernel| image_for(spec, revision, kernel)).collect(),
        image_repo_secret: secret.map(|name| LocalObjectReference { name }),
        // The registry is asked, not a node that may have the image from before.
        image_pull_policy: Some("Always".to_owned()),
        push_built_image: true,
    };
    ModuleImagesConfig { metadata, spec, status: None }
}
