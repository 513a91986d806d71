//! What KMM is asked about for a CXIPreflight: images that no node needs yet.

use cxi_api::{
    CXIDriverSpec, CXIPreflight, RevisionId,
    kmm::{ModuleImage, ModuleImagesConfig, ModuleImagesConfigSpec, ModuleKernelMapping},
    names::{module_name, question_name},
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
/// KMM takes the first mapping that fits, and its expressions may fit any part of the kernel's name, which it takes without a `+` at
/// the end (`internal/module/kernelmapper.go`). An expression that cannot be read here fits nothing.
pub fn image_for(spec: &CXIDriverSpec, revision: &RevisionId, kernel: &str, namespace: &str) -> Option<ModuleImage> {
    let kernel = kernel.trim_end_matches('+');
    let fits = |mapping: &ModuleKernelMapping| {
        let literal = mapping.literal.as_deref().filter(|literal| !literal.is_empty());
        let matches = |expression: &String| Regex::new(expression).is_ok_and(|expression| expression.is_match(kernel));
        literal == Some(kernel) || literal.is_none() && mapping.regexp.as_ref().is_some_and(matches)
    };
    let mapping = kernel_mappings(spec, revision).into_iter().find(fits)?;
    Some(ModuleImage {
        image: filled_in(&mapping.container_image, kernel, &module_name(revision), namespace)?,
        kernel_version: kernel.to_owned(),
        build: mapping.build,
        sign: mapping.sign,
        skip_wait_missing_image: true,
        registry_tls: tls(&spec.source),
    })
}

/// An image with KMM's variables filled in; none for a kernel that KMM refuses, because its name has fewer than three parts
/// (`internal/utils/replaceStrings.go`).
fn filled_in(image: &str, kernel: &str, module: &str, namespace: &str) -> Option<String> {
    // What no tag may have (`internal/module/kernel` of KMM: `NormalizeVersion`).
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let kernel: String = kernel.chars().map(legal).collect();
    let mut parts = kernel.split(['.', ',', '-']);
    let (x, y, z) = (parts.next()?, parts.next()?, parts.next()?);
    let variables = [
        ("KERNEL_FULL_VERSION", kernel.as_str()),
        ("KERNEL_VERSION", kernel.as_str()),
        ("KERNEL_XYZ", &format!("{x}.{y}.{z}")),
        ("KERNEL_X", x),
        ("KERNEL_Y", y),
        ("KERNEL_Z", z),
        ("MOD_NAME", module),
        ("MOD_NAMESPACE", namespace),
    ];
    Some(variables.iter().fold(image.to_owned(), |image, (name, value)| image.replace(&format!("${{{name}}}"), value)))
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
        name: Some(question_name(uid, revision)),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels(driver)),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let secret = spec.source.image_pull_secret.clone();
    let spec = ModuleImagesConfigSpec {
        images: kernels.iter().filter_map(|kernel| image_for(spec, revision, kernel, namespace)).collect(),
        image_repo_secret: secret.map(|name| LocalObjectReference { name }),
        // The registry is asked, not a node that may have the image from before.
        image_pull_policy: Some("Always".to_owned()),
        push_built_image: true,
    };
    ModuleImagesConfig { metadata, spec, status: None }
}

#[cfg(test)]
mod tests {
    use cxi_api::driver::{KernelMapping, SourceType};

    use super::*;

    fn image(mappings: Vec<KernelMapping>, kernel: &str) -> Option<String> {
        let mut spec = CXIDriverSpec::new("13.1.0");
        spec.source.kind = SourceType::Prebuilt;
        spec.source.image = mappings.is_empty().then(|| "r/cxi".to_owned());
        spec.source.kernel_mappings = mappings;
        let revision = "0123abcd".parse().unwrap();
        image_for(&spec, &revision, kernel, "ns").map(|image| image.image)
    }

    fn mapping(literal: Option<&str>, regexp: Option<&str>, image: &str) -> KernelMapping {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        KernelMapping { literal: owned(literal), regexp: owned(regexp), image: image.to_owned() }
    }

    #[test]
    fn the_image_is_the_one_that_kmm_chooses() {
        assert_eq!(image(Vec::new(), "6.12.1+deb-amd64").as_deref(), Some("r/cxi:13.1.0-6.12.1_deb-amd64"));
        assert_eq!(image(Vec::new(), "6.12.1-own+").as_deref(), Some("r/cxi:13.1.0-6.12.1-own"));
        assert_eq!(image(Vec::new(), "6.12"), None, "KMM refuses such a kernel");
        let mappings = || {
            vec![
                mapping(Some("6.12.1-a"), None, "r/a:${KERNEL_XYZ}-${MOD_NAME}-${MOD_NAMESPACE}"),
                mapping(None, Some("-b$"), "r/b:${KERNEL_X}.${KERNEL_Y}.${KERNEL_Z}"),
                mapping(None, Some("(?!x)"), "r/c:1"),
            ]
        };
        assert_eq!(image(mappings(), "6.12.1-a").as_deref(), Some("r/a:6.12.1-cxi-0123abcd-ns"));
        assert_eq!(image(mappings(), "6.12.1-b").as_deref(), Some("r/b:6.12.1"));
        assert_eq!(image(mappings(), "6.12.1-c"), None);
    }
}
