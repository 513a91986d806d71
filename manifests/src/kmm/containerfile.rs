//! What KMM needs to build the images of a revision: the Containerfile in its `ConfigMap`, and how the Module refers to it.

use cxi_api::{
    CXIDriverSpec, KernelModule, RevisionId,
    driver::{DkmsRepositories, GitReference, Platform, Source, SourceType},
    kmm::{BuildArg, DOCKERFILE_KEY, ModuleBuild, ModuleRegistryTls, ModuleSign},
    names::{REVISION_LABEL, module_name},
};
use cxi_driver_image_format::{
    Layout,
    base::BASES,
    containerfile::{self, Remote},
    layout::{Kind, Place},
};
use k8s_openapi::{
    api::core::v1::{ConfigMap, LocalObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::labels::labels;

/// A repository of the stack's public sources.
struct Public {
    /// What it is called in messages and in the manifest.
    name: &'static str,
    /// Where it is.
    url: &'static str,
    /// DKMS package, which the tree's template does not say.
    package: Option<&'static str>,
}

const HEADERS: Public =
    Public { name: "cassini-headers", url: "https://github.com/HewlettPackard/shs-cassini-headers", package: None };

const SBL: Public =
    Public { name: "sbl", url: "https://github.com/HewlettPackard/ss-sbl", package: Some("cray-slingshot-base-link") };

const SL_DRIVER: Public =
    Public { name: "sl-driver", url: "https://github.com/HewlettPackard/ss-link", package: Some("sl-driver") };

const CXI_DRIVER: Public = Public {
    name: "cxi-driver",
    url: "https://github.com/HewlettPackard/shs-cxi-driver",
    package: Some("cray-cxi-driver"),
};

/// The `ConfigMap` of a revision, named like its Module, which owns it: it goes when the Module does. `None` when nothing is
/// built. `layout` is what `source.dkms.layout` refers to.
pub fn containerfile(
    driver: &str,
    spec: &CXIDriverSpec,
    revision: &RevisionId,
    namespace: &str,
    module_uid: &str,
    layout: Option<&Layout>,
) -> Option<ConfigMap> {
    let text = text(&spec.source, layout)?;
    let mut labels = labels(driver);
    labels.insert(REVISION_LABEL.to_owned(), revision.to_string());
    let owner = OwnerReference {
        api_version: "kmm.sigs.x-k8s.io/v1beta1".to_owned(),
        kind: "Module".to_owned(),
        name: module_name(revision),
        uid: module_uid.to_owned(),
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        name: Some(module_name(revision)),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    Some(ConfigMap { metadata, data: Some([(DOCKERFILE_KEY.to_owned(), text)].into()), ..ConfigMap::default() })
}

/// The Containerfile by which a source is built.
fn text(source: &Source, layout: Option<&Layout>) -> Option<String> {
    if !source.builds() {
        return None;
    }
    if source.kind == SourceType::Prebuilt {
        return source.prebuilt_cache.as_deref().map(containerfile::packing);
    }
    let platform = match source.dkms.as_ref().map(|dkms| dkms.platform).unwrap_or_default() {
        Platform::Cassini => "cassini",
        Platform::Rosetta => "rosetta",
    };
    if source.layout().is_some() {
        return layout.map(|layout| containerfile::of_layout(layout, platform));
    }
    Some(containerfile::in_cluster(&remotes(source), platform))
}

/// The source trees in the order in which they need each other.
fn remotes(source: &Source) -> Vec<Remote> {
    if let Some(url) = source.archive() {
        let place = Place::Archive { url: url.to_owned(), sha256: source.repository_sha256.clone() };
        return vec![Remote {
            name: "driver".to_owned(),
            place,
            inside: None,
            package: None,
            kind: Kind::Module,
            field: None,
        }];
    }
    let dkms = source.dkms.clone().unwrap_or_default();
    let tag = dkms.tag.unwrap_or_default();
    let DkmsRepositories { cxi_driver, sbl, sl_driver, cassini_headers } = dkms.repositories.unwrap_or_default();
    let tree = |public: &Public, named: Option<GitReference>| {
        let place = match named {
            Some(GitReference { url, reference }) => Place::Git { url, reference },
            None => Place::Git { url: public.url.to_owned(), reference: tag.clone() },
        };
        Remote {
            name: public.name.to_owned(),
            place,
            inside: None,
            package: public.package.map(str::to_owned),
            kind: if public.package.is_none() { Kind::Headers } else { Kind::Module },
            field: None,
        }
    };
    vec![tree(&HEADERS, cassini_headers), tree(&SBL, sbl), tree(&SL_DRIVER, sl_driver), tree(&CXI_DRIVER, cxi_driver)]
}

/// For kernels that match a regular expression, how their images are built.
pub fn builds(spec: &CXIDriverSpec, revision: &RevisionId) -> Vec<(String, ModuleBuild)> {
    let source = &spec.source;
    if !source.builds() {
        return Vec::new();
    }
    let argument = |name: &str, value: &str| BuildArg { name: name.to_owned(), value: value.to_owned() };
    let reference = |name: &String| LocalObjectReference { name: name.clone() };
    let build = |builder: &str, runtime: &str| ModuleBuild {
        dockerfile_config_map: LocalObjectReference { name: module_name(revision) },
        build_args: vec![
            argument("DRIVER_VERSION", &spec.version),
            argument("BUILDER_BASE", builder),
            argument("RUNTIME_BASE", runtime),
        ],
        secrets: source.build_secrets.iter().map(reference).collect(),
        base_image_registry_tls: tls(source),
    };
    // KMM chooses by the kernel's name alone.
    let mut builds: Vec<_> = BASES
        .iter()
        .filter(|base| base.told_by_name)
        .map(|base| {
            let builder = source.builder_image.as_deref().unwrap_or(base.builder);
            (base.kernels.to_owned(), build(builder, base.runtime))
        })
        .collect();
    // A kernel whose name does not tell whose it is can only be built where the image is named.
    if let Some(builder) = &source.builder_image {
        builds.push(("^.+$".to_owned(), build(builder, "scratch")));
    }
    builds
}

/// How KMM talks to the registry.
pub fn tls(source: &Source) -> Option<ModuleRegistryTls> {
    source
        .registry_tls
        .as_ref()
        .map(|tls| ModuleRegistryTls { insecure: tls.insecure, insecure_skip_tls_verify: tls.insecure_skip_tls_verify })
}

/// How the modules of images that are built are signed.
pub fn sign(source: &Source) -> Option<ModuleSign> {
    let sign = source.sign.as_ref().filter(|_| source.builds())?;
    let secret = |name: &Option<String>| Some(LocalObjectReference { name: name.clone()? });
    // KMM fills the kernel in as it is spelled in a tag, for which there is a link in the image.
    let path = |file: &&str| format!("/opt/lib/modules/${{KERNEL_FULL_VERSION}}/extra/{file}.ko");
    Some(ModuleSign {
        key_secret: secret(&sign.key_secret)?,
        cert_secret: secret(&sign.cert_secret)?,
        files_to_sign: KernelModule::DRIVER.map(KernelModule::file_stem).iter().map(path).collect(),
        unsigned_image_registry_tls: tls(source),
    })
}
