//! KMM's objects.

use cxi_api::{
    RevisionId, Timestamp,
    kmm::{self, ImageState, ModuleImage, ModuleImagesConfig, NodeModule, NodeModulesConfig},
    names::{DRIVER_LABEL, REVISION_LABEL, VERSION_ANNOTATION},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Kind, Labels,
    fields::{created, lenient, or_default},
    typed,
};

/// What counts of a Module of ours. What it loads the operator wrote, and it is not read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// CXIDriver that it belongs to, by its label.
    pub driver: Option<Box<str>>,
    /// Revision that it is, by its label.
    pub revision: Option<RevisionId>,
    /// Driver release, by its annotation.
    pub version: Option<Box<str>>,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
}

#[derive(Deserialize)]
struct WireModule {
    metadata: ModuleMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleMeta {
    #[serde(default)]
    labels: Labels,
    #[serde(default, deserialize_with = "lenient")]
    annotations: serde_json::Map<String, Value>,
    #[serde(default)]
    creation_timestamp: Option<Value>,
    #[serde(default)]
    deletion_timestamp: Option<Value>,
}

impl Kind for Module {
    type Api = kmm::Module;
    type Remains = ();

    fn parse(json: &str) -> Result<Option<Self>, String> {
        let WireModule { metadata } = typed(json)?;
        Ok(Some(Self {
            driver: metadata.labels.get(DRIVER_LABEL).map(Into::into),
            revision: metadata.labels.get(REVISION_LABEL).and_then(|text| text.parse().ok()),
            version: metadata.annotations.get(VERSION_ANNOTATION).and_then(Value::as_str).map(Into::into),
            created: created(metadata.creation_timestamp.as_ref()),
            deleting: metadata.deletion_timestamp.is_some(),
        }))
    }
}

/// A ModuleImagesConfig. Without it no image counts as verified, and nothing moves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    /// Images by kernel.
    pub wanted: Vec<ModuleImage>,
    /// What is known of them.
    pub states: Vec<ImageState>,
}

#[derive(Deserialize)]
struct WireImages {
    #[serde(default, deserialize_with = "or_default")]
    spec: ImagesSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: ImagesStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ImagesSpec {
    #[serde(deserialize_with = "or_default")]
    images: Vec<ModuleImage>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ImagesStatus {
    #[serde(deserialize_with = "or_default")]
    images_states: Vec<ImageState>,
}

impl Kind for Images {
    type Api = ModuleImagesConfig;
    type Remains = ();

    fn parse(json: &str) -> Result<Option<Self>, String> {
        let WireImages { spec, status } = typed(json)?;
        Ok(Some(Self { wanted: spec.images, states: status.images_states }))
    }
}

/// A NodeModulesConfig: which of KMM's Modules a node should have, and has; only those whose names are like ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Wanted.
    pub wanted: Vec<NodeModule>,
    /// There.
    pub there: Vec<NodeModule>,
}

#[derive(Deserialize)]
struct WireLoaded {
    #[serde(default, deserialize_with = "or_default")]
    spec: Modules,
    #[serde(default, deserialize_with = "or_default")]
    status: Modules,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Modules {
    #[serde(deserialize_with = "or_default")]
    modules: Vec<NodeModule>,
}

impl Kind for Loaded {
    type Api = NodeModulesConfig;
    type Remains = ();

    fn parse(json: &str) -> Result<Option<Self>, String> {
        let WireLoaded { spec, status } = typed(json)?;
        let ours = |Modules { mut modules }: Modules| {
            modules.retain(|module| module.name.starts_with("cxi-"));
            modules
        };
        Ok(Some(Self { wanted: ours(spec), there: ours(status) }))
    }
}
