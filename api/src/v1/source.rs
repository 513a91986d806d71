//! `CXIDriver.spec.source`: where the driver comes from, and what its images are built from.

use std::{collections::BTreeMap, sync::LazyLock};

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    layout::LayoutReference,
    limits::{self, rule},
};

/// Where the driver comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type != 'prebuilt' || (has(self.image) && self.image != '') || (has(self.kernelMappings) && size(self.kernelMappings) > 0)").message("source.type prebuilt needs source.image (the repository of the driver images) or source.kernelMappings"),
    validation = Rule::new("self.type != 'prebuilt' || !has(self.prebuiltCache) || (has(self.image) && self.image != '')").message("source.prebuiltCache needs source.image: the packed driver images are pushed there"),
    validation = Rule::new("!has(self.sign) || self.type == 'dkms' || (self.type == 'prebuilt' && has(self.prebuiltCache))").message("source.sign needs images that are built in the cluster (source.type dkms, or source.prebuiltCache); sign other images where they are built"),
    validation = Rule::new("!has(self.repository) || !self.repository.startsWith('http://') || has(self.repositorySHA256)").message("source.repository over http:// can be changed on its way: use https, or set source.repositorySHA256"),
    validation = Rule::new("!has(self.sign) || !has(self.sign.keySecret) || !has(self.buildSecrets) || !(self.sign.keySecret in self.buildSecrets)").message("source.buildSecrets must not name the Secret of source.sign.keySecret: what a build runs could read the signing key; keep the key in a Secret of its own"),
    validation = Rule::new("!has(self.repositorySHA256) || has(self.repository)").message("source.repositorySHA256 is the checksum of source.repository, which is not set")
)]
pub struct Source {
    /// prebuilt: driver images exist in source.image, one per kernel. dkms: KMM builds them in the cluster and pushes
    /// them to source.image. preinstalled: the host brings the driver, and the operator loads and unloads nothing.
    #[serde(rename = "type", default)]
    pub kind: SourceType,
    /// Repository of the driver images without tag. The image of a kernel is `<image>:<version>-<kernel>`, where `<kernel>`
    /// is `uname -r` with `+` replaced by `_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::image_repository")]
    pub image: Option<String>,
    /// Images for particular kernels, tried in order before source.image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = [KERNELS.clone()]))]
    pub kernel_mappings: Vec<KernelMapping>,
    /// dkms: URL of a source archive (.tar.gz or .zip) that holds a dkms.conf. It wins over source.dkms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self.matches('^[^\\s]*$')").message("source.repository must be the http or https URL of a source archive (.tar.gz or .zip), without spaces"))]
    pub repository: Option<String>,
    /// SHA-256 of the archive in source.repository, as sha256sum prints it. KMM builds no archive with another sum.
    #[serde(rename = "repositorySHA256", default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]{64}$')").message("source.repositorySHA256 must be 64 hexadecimal digits, as sha256sum prints them"))]
    pub repository_sha256: Option<String>,
    /// dkms: the repositories of a Slingshot host software release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dkms: Option<Dkms>,
    /// prebuilt: base URL of compiled modules, `<url>/<version>/<kernel>/*.ko`. If an image in source.image does not
    /// exist yet, KMM makes it of these modules. A SHA256SUMS beside the modules lists and protects them. Without it
    /// KMM takes the five modules of the stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self.matches('^https://[^\\s]+$')").message("source.prebuiltCache must be an https URL, below which <version>/<kernel>/ holds modules: what comes over http:// can be changed on its way, SHA256SUMS included"))]
    pub prebuilt_cache: Option<String>,
    /// Image in which KMM builds, with the compiler of the nodes' distribution. Default: that distribution's public
    /// image, which the operator tells by the kernel's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::image")]
    pub builder_image: Option<String>,
    /// Name of a Secret in the operator's namespace with which the driver images are pulled, and pushed by builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::secret")]
    pub image_pull_secret: Option<String>,
    /// Names of Secrets in the operator's namespace that builds get. Their key netrc holds accounts of the servers that
    /// the sources come from, ca.crt the authority to trust. Everything that a build runs can read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    #[x_kube(
        validation = Rule::new("self.all(name, !format.dns1123Subdomain().validate(name).hasValue())").message("source.buildSecrets must be names of Secrets: lower-case letters, digits, '-' and '.'"),
        validation = Rule::new("self.all(name, self.exists_one(other, other == name))").message("source.buildSecrets must name each Secret once")
    )]
    pub build_secrets: Vec<String>,
    /// Signs the modules of images that are built in the cluster, for nodes that only load signed ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<Sign>,
    /// How KMM talks to the registry of the driver images.
    #[serde(rename = "registryTLS", default, skip_serializing_if = "Option::is_none")]
    pub registry_tls: Option<RegistryTls>,
    /// How the modules are loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modprobe: Option<Modprobe>,
}

/// A regular expression that is none cannot be evaluated, which is an error and not false: one that is stored already must not
/// keep the status from being written.
static KERNELS: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "rule": "(oldSelf.hasValue() && oldSelf.value() == self) || self.all(mapping, !has(mapping.regexp) || 'kernel'.matches(mapping.regexp) in [true, false])",
        "optionalOldSelf": true,
        "message": "regexp of a kernel mapping must be a regular expression in Go's syntax (RE2), such as ^6[.]4[.]0-.*-default$",
    })
});

/// What is said of a source of type dkms that has no sources, by the API server and in the condition of an object that was stored before.
pub const SOURCES_REQUIRED: &str = "source.type is dkms and nothing says what to build: set source.repository (http or https URL of a \
                                    source archive), source.dkms.layout (a release's trees) or source.dkms.tag (one tag of HPE's repositories), or use \
                                    source.type prebuilt if the driver images exist";

/// The rule of a spec: what the operator says by [`SOURCES_REQUIRED`]. It is not one of `source`, whose default has no sources, and
/// defaults must be valid. A stored object without sources may be changed elsewhere.
pub(crate) fn sources() -> Value {
    let known = KNOWN_SOURCES.replace("self", "oldSelf.value()");
    let mut rule = rule(&format!("{KNOWN_SOURCES} || (oldSelf.hasValue() && !({known}))"), SOURCES_REQUIRED);
    rule["optionalOldSelf"] = true.into();
    json!([rule])
}

/// [`Source::has_sources`] in CEL, of an object with a field `source`.
pub(crate) fn known_sources() -> &'static str {
    KNOWN_SOURCES
}

/// [`Source::has_sources`] in CEL, of a spec; true also for what has its images from elsewhere.
const KNOWN_SOURCES: &str = "(self.source.type != 'dkms' || (has(self.source.kernelMappings) && size(self.source.kernelMappings) > 0) \
    || (has(self.source.repository) && (self.source.repository.startsWith('https://') || self.source.repository.startsWith('http://'))) \
    || (has(self.source.dkms) && ((has(self.source.dkms.tag) && self.source.dkms.tag != '') || has(self.source.dkms.layout) \
    || (has(self.source.dkms.repositories) && has(self.source.dkms.repositories.cxiDriver) && has(self.source.dkms.repositories.sbl) \
    && has(self.source.dkms.repositories.slDriver) && has(self.source.dkms.repositories.cassiniHeaders)))))";

/// With what modules are signed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.keySecret) && self.keySecret != '' && has(self.certSecret) && self.certSecret != ''").message("source.sign needs both keySecret (with the private key in key) and certSecret (with the certificate in cert)")
)]
pub struct Sign {
    /// Name of a Secret in the operator's namespace with the private key, PEM, in `key`. It must not be one of
    /// source.buildSecrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::secret")]
    pub key_secret: Option<String>,
    /// Name of a Secret in the operator's namespace with the certificate, DER, in `cert`. The nodes must trust it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::secret")]
    pub cert_secret: Option<String>,
}

/// See [`Source::kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceType {
    /// Built in the cluster.
    #[default]
    Dkms,
    /// Images exist.
    Prebuilt,
    /// The host brings the driver.
    Preinstalled,
}

/// An image for particular kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.literal) && self.literal != '') != (has(self.regexp) && self.regexp != '')").message("a kernel mapping needs exactly one of literal and regexp")
)]
pub struct KernelMapping {
    /// The kernel, exactly as `uname -r` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub literal: Option<String>,
    /// A regular expression that matches the kernel, in Go's syntax (RE2), which has no lookahead: `^6\.4\.0-.*-default$`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub regexp: Option<String>,
    /// Image with tag or digest; may contain KMM's `${KERNEL_FULL_VERSION}`.
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = limits::mapped_image()))]
    pub image: String,
}

/// The repositories of a Slingshot host software release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dkms {
    /// Release tag, such as release/shs-13.0.0, of HPE's public repositories; those in repositories have their own.
    /// Trees that a release's packages rearrange before they are built need a layout instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self == '' || self.matches('^[A-Za-z0-9][A-Za-z0-9._/+-]*$')").message("source.dkms.tag must be a git tag such as release/shs-13.0.0"))]
    pub tag: Option<String>,
    /// Hardware platform of the stack.
    #[serde(default)]
    pub platform: Platform,
    /// Where the four source trees are. Default: HPE's public repositories, at source.dkms.tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repositories: Option<DkmsRepositories>,
    /// The layout of a release: its trees, their order, and what is copied where before they are built. It wins over tag and
    /// repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<LayoutReference>,
}

/// Hardware platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// NIC.
    #[default]
    Cassini,
    /// Switch.
    Rosetta,
}

/// The four source trees of a Slingshot host software stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DkmsRepositories {
    /// The CXI driver. Default: HPE's public repository, at source.dkms.tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cxi_driver: Option<GitReference>,
    /// The base link driver. Default: HPE's public repository, at source.dkms.tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbl: Option<GitReference>,
    /// The link driver. Default: HPE's public repository, at source.dkms.tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sl_driver: Option<GitReference>,
    /// The hardware headers. Default: HPE's public repository, at source.dkms.tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cassini_headers: Option<GitReference>,
}

/// A place in a git repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!(self.url.startsWith('http://') || self.url.startsWith('git://')) || self.ref.matches('^[0-9a-f]{40}$')").message("what comes from a repository over http:// or git:// can be changed on its way: use https or ssh, or name a commit by its 40 digits in ref")
)]
pub struct GitReference {
    /// Repository URL.
    #[x_kube(validation = Rule::new(r"self.matches('^[^\\s-][^\\s]*$')").message("url of a source repository must be a URL that git can fetch, without spaces"))]
    pub url: String,
    /// Branch, tag or commit.
    #[serde(rename = "ref")]
    #[x_kube(validation = Rule::new(r"self.matches('^[A-Za-z0-9][A-Za-z0-9._/+-]*$')").message("ref of a source repository must be a branch, a tag or a commit"))]
    pub reference: String,
}

/// How KMM talks to a registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryTls {
    /// Plain HTTP.
    #[serde(default)]
    pub insecure: bool,
    /// HTTPS without verification of the certificate.
    #[serde(default)]
    pub insecure_skip_tls_verify: bool,
}

/// How the modules are loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Modprobe {
    /// Parameters of the driver's modules, by module, each as `name=value`: for example `cxi-ss1: [disable_default_svc=0]`.
    /// `modinfo -p` lists them. A change reloads the driver, node by node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters")]
    #[x_kube(
        validation = Rule::new("self.all(name, name.matches('^cxi[-_](sbl|sl|ss1|user|eth)$'))").message("modprobe.parameters are by module, and the driver's are cxi-sbl, cxi-sl, cxi-ss1, cxi-user and cxi-eth"),
        validation = Rule::new("self.all(name, self[name].all(value, value.matches('^[A-Za-z_][A-Za-z0-9_.-]*=[A-Za-z0-9_.,:;/+@%=-]*$')))").message("each of modprobe.parameters must be name=value, without spaces and quotes, such as disable_default_svc=0")
    )]
    pub parameters: BTreeMap<String, Vec<String>>,
    /// Directory inside the driver image whose files KMM copies to the host's firmware path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("firmwarePath must be an absolute path inside the driver image"))]
    pub firmware_path: Option<String>,
    /// Modules of the host's kernel package to remove before loading, spelled like their files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_tree_modules_to_remove: Vec<String>,
}

/// The bounds let the API server know what checking them costs at most.
fn parameters(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 5,
        "additionalProperties": { "type": "array", "maxItems": 64, "items": { "type": "string", "maxLength": 256 } },
    })
}

impl Source {
    /// Where driver images are, if they are anywhere.
    pub fn repository_of_images(&self) -> Option<&str> {
        self.image.as_deref().filter(|image| !image.is_empty())
    }

    /// Whether driver images that do not exist are built in the cluster.
    pub fn builds(&self) -> bool {
        let from_sources = self.kind == SourceType::Dkms && self.has_sources();
        let from_modules = self.kind == SourceType::Prebuilt && self.prebuilt_cache.is_some();
        self.repository_of_images().is_some() && (from_sources || from_modules)
    }

    /// URL of the source archive. In manifests of the earlier operator an image may stand here, which is none.
    pub fn archive(&self) -> Option<&str> {
        self.repository.as_deref().filter(|url| url.starts_with("https://") || url.starts_with("http://"))
    }

    /// Where the layout is by which images are built, if they are built by one. An archive wins over it.
    pub fn layout(&self) -> Option<&LayoutReference> {
        let layout = self.dkms.as_ref()?.layout.as_ref();
        layout.filter(|_| self.kind == SourceType::Dkms && self.archive().is_none())
    }

    /// Whether it says what a driver is built from.
    pub fn has_sources(&self) -> bool {
        let archive = self.archive().is_some();
        let dkms = self.dkms.as_ref();
        let tagged = dkms.and_then(|dkms| dkms.tag.as_ref()).is_some_and(|tag| !tag.is_empty());
        let all_four = dkms.and_then(|dkms| dkms.repositories.as_ref()).is_some_and(|repositories| {
            let DkmsRepositories { cxi_driver, sbl, sl_driver, cassini_headers } = repositories;
            [cxi_driver, sbl, sl_driver, cassini_headers].iter().all(|repository| repository.is_some())
        });
        archive || tagged || all_four || self.layout().is_some()
    }
}
