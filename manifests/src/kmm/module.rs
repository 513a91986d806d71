//! The KMM Module of a revision.

use std::collections::BTreeMap;

use cxi_api::{
    CXIDriverSpec, RevisionId,
    kmm::{Module, ModuleBuild, ModuleContainer, ModuleKernelMapping, ModuleLoader, ModuleSpec},
    names::{
        DRIVER_LABEL, MODULE_LOADER_ACCOUNT, REVISION_LABEL, VERSION_ANNOTATION, VERSION_LABEL, label_value,
        module_name,
    },
};
use k8s_openapi::{
    api::core::v1::{LocalObjectReference, Toleration},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    containerfile::{builds, sign, tls},
    modprobe::modprobe,
};
use crate::labels::labels;

/// The Module. It is created once and never edited, and it has no owner: were it collected together with its CXIDriver, KMM
/// would unload the driver from every node at once, under running jobs. Modules are deleted by the rollout, in order.
pub fn module(driver: &str, spec: &CXIDriverSpec, revision: &RevisionId, namespace: &str) -> Module {
    let mut labels = labels(driver);
    labels.insert(REVISION_LABEL.to_owned(), revision.to_string());
    labels.insert(VERSION_LABEL.to_owned(), label_value(&spec.version));
    let metadata = ObjectMeta {
        name: Some(module_name(revision)),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        annotations: Some([(VERSION_ANNOTATION.to_owned(), spec.version.clone())].into()),
        ..ObjectMeta::default()
    };
    let source = &spec.source;
    let wanted = source.modprobe.clone().unwrap_or_default();
    let container = ModuleContainer {
        version: Some(revision.to_string()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        modprobe: modprobe(&wanted.parameters, wanted.firmware_path),
        kernel_mappings: kernel_mappings(spec, revision),
        in_tree_modules_to_remove: wanted.in_tree_modules_to_remove,
        registry_tls: tls(source),
    };
    let spec = ModuleSpec {
        selector: BTreeMap::from([(DRIVER_LABEL.to_owned(), driver.to_owned())]),
        // A taint must never make KMM unload a driver.
        tolerations: vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }],
        image_repo_secret: source.image_pull_secret.clone().map(|name| LocalObjectReference { name }),
        module_loader: Some(ModuleLoader { service_account_name: MODULE_LOADER_ACCOUNT.to_owned(), container }),
    };
    Module { metadata, spec }
}

/// The special cases, whose images exist; those that are built, by distribution; then one for every other kernel.
pub fn kernel_mappings(spec: &CXIDriverSpec, revision: &RevisionId) -> Vec<ModuleKernelMapping> {
    let special = spec.source.kernel_mappings.iter().map(|mapping| ModuleKernelMapping {
        container_image: mapping.image.clone(),
        literal: mapping.literal.clone(),
        regexp: mapping.regexp.clone(),
        build: None,
        sign: None,
    });
    let Some(image) = spec.source.repository_of_images() else { return special.collect() };
    // A tag has no `+`; KMM does the same to the kernel.
    let container_image = format!("{image}:{}-${{KERNEL_FULL_VERSION}}", spec.version.replace('+', "_"));
    let general = |regexp: String, build: Option<ModuleBuild>| ModuleKernelMapping {
        container_image: container_image.clone(),
        literal: None,
        regexp: Some(regexp),
        sign: build.as_ref().and_then(|_| sign(&spec.source)),
        build,
    };
    let every_kernel = "^.+$".to_owned();
    let mut all: Vec<_> = special.collect();
    all.extend(builds(spec, revision).into_iter().map(|(regexp, build)| general(regexp, Some(build))));
    if all.last().and_then(|mapping| mapping.regexp.as_ref()) != Some(&every_kernel) {
        all.push(general(every_kernel, None));
    }
    all
}
