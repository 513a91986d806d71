//! The part of KMM's API (`kmm.sigs.x-k8s.io/v1beta1`) that the operator uses. Source: KMM 2.5 `api/v1beta1`. Fields that
//! are only compared, never read, stay untyped, so that a newer KMM with more fields is compared whole.

use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Label of KMM's worker pods: `Load` or `Unload` (KMM `internal/pod`, as are the next three).
pub const WORKER_ACTION_LABEL: &str = "kmm.node.kubernetes.io/worker-action";

/// Label of KMM's pull pods.
pub const PULL_POD_LABEL: &str = "kmm.node.kubernetes.io/pull-pod-type";

/// Label of KMM's pods that build or sign an image (KMM's `internal/constants`: `ResourceType`).
pub const BUILD_POD_LABEL: &str = "kmm.node.kubernetes.io/resource-type";

/// Label of the same pods: kernel that the image is for.
pub const TARGET_KERNEL_LABEL: &str = "kmm.node.kubernetes.io/target-kernel";

/// Label of KMM's pods: the Module that they work for.
pub const MODULE_NAME_LABEL: &str = "kmm.node.kubernetes.io/module.name";

/// KMM's Module: a kernel module, its images per kernel and the nodes that get it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(group = "kmm.sigs.x-k8s.io", version = "v1beta1", kind = "Module", namespaced, derive = "PartialEq")]
#[serde(rename_all = "camelCase")]
pub struct ModuleSpec {
    /// Nodes that KMM looks at.
    pub selector: BTreeMap<String, String>,
    /// Taints that do not make KMM unload the module.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Pull secret of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_repo_secret: Option<LocalObjectReference>,
    /// What is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_loader: Option<ModuleLoader>,
}

/// What a Module loads, and as whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleLoader {
    /// Account of the worker pods.
    pub service_account_name: String,
    /// The images.
    pub container: ModuleContainer,
}

/// The images of a Module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleContainer {
    /// Version that node labels refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Pull policy of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// How modprobe is called.
    pub modprobe: ModprobeSpec,
    /// Image per kernel, first match wins.
    pub kernel_mappings: Vec<ModuleKernelMapping>,
    /// Modules of the host to remove before loading.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_tree_modules_to_remove: Vec<String>,
    /// How to talk to the registry.
    #[serde(rename = "registryTLS", default, skip_serializing_if = "Option::is_none")]
    pub registry_tls: Option<ModuleRegistryTls>,
}

/// How modprobe is called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModprobeSpec {
    /// Name of the module, when `rawArgs` is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_name: Option<String>,
    /// Arguments of modprobe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_args: Option<RawArgs>,
    /// Parameters of the module; KMM does not use them with `rawArgs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// Directory of the modules in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir_name: Option<String>,
    /// Directory of firmware in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_path: Option<String>,
}

/// Arguments of modprobe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RawArgs {
    /// For loading.
    pub load: Vec<String>,
    /// For unloading.
    pub unload: Vec<String>,
}

/// Image for a kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleKernelMapping {
    /// Image.
    pub container_image: String,
    /// Kernel exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub literal: Option<String>,
    /// Kernel by regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regexp: Option<String>,
    /// How the image is built where it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<ModuleBuild>,
    /// How its modules are signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<ModuleSign>,
}

/// How an image is built.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleBuild {
    /// `ConfigMap` in the Module's namespace with the Containerfile in `dockerfile`.
    pub dockerfile_config_map: LocalObjectReference,
    /// Build arguments; KMM adds those about kernel and Module.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build_args: Vec<BuildArg>,
    /// Secrets that the build gets below /run/secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<LocalObjectReference>,
    /// How to talk to the registry of the images that the Containerfile begins with.
    #[serde(rename = "baseImageRegistryTLS", default, skip_serializing_if = "Option::is_none")]
    pub base_image_registry_tls: Option<ModuleRegistryTls>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildArg {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// How modules are signed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleSign {
    /// Secret with the private key in `key`.
    pub key_secret: LocalObjectReference,
    /// Secret with the certificate in `cert`.
    pub cert_secret: LocalObjectReference,
    /// Files of the image.
    pub files_to_sign: Vec<String>,
    /// How to talk to the registry of the unsigned image.
    #[serde(rename = "unsignedImageRegistryTLS", default, skip_serializing_if = "Option::is_none")]
    pub unsigned_image_registry_tls: Option<ModuleRegistryTls>,
}

/// Key of the Containerfile in its `ConfigMap` (KMM `internal/constants`).
pub const DOCKERFILE_KEY: &str = "dockerfile";

/// How to talk to a registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModuleRegistryTls {
    /// Plain HTTP.
    #[serde(default)]
    pub insecure: bool,
    /// HTTPS without verification.
    #[serde(rename = "insecureSkipTLSVerify", default)]
    pub insecure_skip_tls_verify: bool,
}

/// What KMM wants and has on a node; named like the node.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "kmm.sigs.x-k8s.io",
    version = "v1beta1",
    kind = "NodeModulesConfig",
    plural = "nodemodulesconfigs",
    status = "NodeModulesConfigStatus",
    derive = "PartialEq",
    derive = "Default"
)]
pub struct NodeModulesConfigSpec {
    /// Modules wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<NodeModule>,
}

/// What KMM has on a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeModulesConfigStatus {
    /// Modules loaded, as far as KMM knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<NodeModule>,
}

/// A module that KMM wants or has on a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeModule {
    /// Name of the Module.
    pub name: String,
    /// Namespace of the Module.
    pub namespace: String,
    /// Version of the Module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What is loaded, compared whole.
    #[schemars(schema_with = "anything")]
    pub config: Value,
    /// Boot in which it was loaded; only in status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

impl NodeModule {
    /// Image of the configuration.
    pub fn image(&self) -> Option<&str> {
        self.config.get("containerImage")?.as_str()
    }

    /// Kernel of the configuration.
    pub fn kernel(&self) -> Option<&str> {
        self.config.get("kernelVersion")?.as_str()
    }
}

/// Which images a Module needs, and which exist; named like the Module.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "kmm.sigs.x-k8s.io",
    version = "v1beta1",
    kind = "ModuleImagesConfig",
    plural = "moduleimagesconfigs",
    namespaced,
    status = "ModuleImagesConfigStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct ModuleImagesConfigSpec {
    /// Images, one per kernel of the selected nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ModuleImage>,
    /// Pull secret of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_repo_secret: Option<LocalObjectReference>,
    /// Pull policy of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Whether images that are built are pushed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub push_built_image: bool,
}

/// An image that a Module needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModuleImage {
    /// Image.
    pub image: String,
    /// Kernel that needs it.
    pub kernel_version: String,
    /// How it is built where it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<ModuleBuild>,
    /// How its modules are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign: Option<ModuleSign>,
    /// Whether an image that cannot be pulled is reported as missing. Otherwise KMM waits for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_wait_missing_image: bool,
    /// How to talk to the registry.
    #[serde(rename = "registryTLS", skip_serializing_if = "Option::is_none")]
    pub registry_tls: Option<ModuleRegistryTls>,
}

/// Which images exist.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleImagesConfigStatus {
    /// State of each image; an image that is being checked is absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images_states: Vec<ImageState>,
}

/// State of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ImageState {
    /// Image.
    pub image: String,
    /// `Exists`, `DoesNotExist`, `NeedsBuilding` or `NeedsSigning`.
    pub status: String,
}
