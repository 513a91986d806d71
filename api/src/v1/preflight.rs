//! `CXIPreflight`: an answer before an upgrade. Are the images of a driver release there, and does the release work on a canary node?

#![allow(clippy::duplicated_attributes, reason = "each printer column repeats the word type_")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    CXIDriverSpec, Timestamp, duration::GoDuration, limits, revision::RevisionId, source::Source,
    validation::Validation,
};

/// A CXIPreflight asks about a driver release before spec.version of a CXIDriver is edited. It cannot be changed: make another one for
/// another question.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cxi.hpe.com",
    version = "v1",
    kind = "CXIPreflight",
    plural = "cxipreflights",
    shortname = "cxipf",
    category = "cxi",
    status = "CXIPreflightStatus",
    derive = "PartialEq",
    doc = "A CXIPreflight asks about a driver release before a CXIDriver is edited: whether there is an image for each kernel, and, if it names a canary node, whether the driver works there. No other node is touched.",
    printcolumn(
        name = "Driver",
        type_ = "string",
        json_path = ".spec.driver",
        description = "CXIDriver whose nodes are meant"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        description = "Driver release in question"
    ),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node.name", description = "Canary node"),
    printcolumn(
        name = "Result",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where it is, or how it ended"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules()))]
pub struct CXIPreflightSpec {
    /// CXIDriver whose nodes and settings are meant.
    #[schemars(length(min = 1, max = 40))]
    pub driver: String,

    /// Driver release in question. Default: spec.version of the CXIDriver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::version")]
    pub version: Option<String>,

    /// Where that driver comes from, in place of the whole spec.source of the CXIDriver. Default: spec.source of the CXIDriver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,

    /// Kernels (`uname -r`) to answer for, also ones that no node runs yet. Default: the kernels of the CXIDriver's nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)), extend("x-kubernetes-validations" = [{"rule": "self.all(kernel, kernel.matches('^[0-9A-Za-z][0-9A-Za-z.+_~-]*$'))", "message": "kernels must be names of kernels as uname -r prints them, such as 6.1.0-44-amd64"}]))]
    pub kernels: Vec<String>,

    /// Canary node: a node of the CXIDriver that runs the release for the time of the preflight. It is drained first, as for an
    /// upgrade. Without node and nodeSelector the operator looks at images only and touches no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub node: Option<String>,

    /// Labels of the canary node. The operator chooses one such node of the CXIDriver, an idle one if there is one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "limits::labels")]
    pub node_selector: BTreeMap<String, String>,

    /// What must succeed on the canary node. Default: spec.updateStrategy.validation of the CXIDriver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,

    /// What becomes of a canary node that passed. `Return`: it goes back to the CXIDriver's revision at once. `Keep`: it stays on the
    /// release, in service, until this object is deleted or the CXIDriver asks for the same revision. A node that failed is always
    /// rolled back.
    #[serde(default)]
    pub after: After,

    /// How long this object is kept after it ended. With `Keep` it is kept as long as the node stays.
    #[serde(default = "a_week")]
    pub ttl_after_finished: GoDuration,
}

/// What holds for the fields together.
fn rules() -> Value {
    let source = crate::source::known_sources();
    json!([
        limits::rule("self == oldSelf", "spec of a CXIPreflight cannot be changed: delete it, or create another one"),
        limits::rule(
            "!(has(self.node) && has(self.nodeSelector))",
            "spec.node and spec.nodeSelector exclude each other: name the canary node, or let the operator choose one",
        ),
        limits::rule(&format!("!has(self.source) || {source}"), crate::source::SOURCES_REQUIRED),
    ])
}

/// See [`CXIPreflightSpec::after`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum After {
    /// The node goes back.
    #[default]
    Return,
    /// The node stays.
    Keep,
}

fn a_week() -> GoDuration {
    GoDuration::hours(7 * 24)
}

/// What is known of a CXIPreflight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CXIPreflightStatus {
    /// metadata.generation that this status speaks of.
    pub observed_generation: i64,
    /// Where the preflight is: `Images` (images are looked for), `Waiting` (for the canary node to be admitted), `Moving` (the canary
    /// node changes its driver), `Validating` (the validation pod runs there), `Returning` (the canary node goes back or into
    /// service), `Succeeded` or `Failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<PreflightPhase>,
    /// Driver release in question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionId>,
    /// The image of each kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<KernelImage>,
    /// The canary node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<CanaryNode>,
    /// When the preflight ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// What the preflight waits for or why it failed, in words, and what helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The state in single statements: `ImagesReady`, `NodeVerified`, `ValidationPassed`, `Complete`, `Failed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// See [`CXIPreflightStatus::phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PreflightPhase {
    /// Images are looked for.
    Images,
    /// The canary node waits to be admitted.
    Waiting,
    /// The canary node changes its driver.
    Moving,
    /// The validation pod runs.
    Validating,
    /// The canary node goes back, or into service.
    Returning,
    /// The answer is yes.
    Succeeded,
    /// The answer is no, or there is none.
    Failed,
}

impl PreflightPhase {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Images => "Images",
            Self::Waiting => "Waiting",
            Self::Moving => "Moving",
            Self::Validating => "Validating",
            Self::Returning => "Returning",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// The image of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelImage {
    /// Kernel.
    pub kernel: String,
    /// Image that belongs to it; absent where source.kernelMappings has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What is known of it.
    pub result: ImageResult,
    /// In words, and what helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What is known of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImageResult {
    /// KMM looks for it.
    Checking,
    /// It is there.
    Found,
    /// It is not there, or cannot be pulled or built.
    Missing,
    /// KMM builds or signs it.
    Building,
    /// Nothing says which image belongs to this kernel.
    NoMapping,
}

/// What became of the canary node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryNode {
    /// Name of the Node.
    pub name: String,
    /// UID of the Node.
    pub uid: String,
    /// Revision that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<RevisionId>,
    /// What it showed with the release in question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// Whether a node that was kept is the CXIDriver's again, because that asked for the same release.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// What a node showed with the release that a preflight asks about. The operator writes it into the CXINode first, so that no answer is
/// lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Trial {
    /// UID of the CXIPreflight.
    pub preflight: String,
    /// When the node was taken out of service; absent when it offered nothing before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub closed_at: Option<Timestamp>,
    /// When the operator had verified the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub verified_at: Option<Timestamp>,
    /// Build-ids of the modules that were loaded, by module.
    #[serde(rename = "buildIDs", skip_serializing_if = "BTreeMap::is_empty")]
    pub build_ids: BTreeMap<String, String>,
    /// NICs that the driver had bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nics: Option<i32>,
    /// NICs whose link was up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<i32>,
    /// What the validation pod said; absent where there is no validation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationResult>,
    /// Why the release failed on the node, in words; absent when it passed or the trial is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When the release had passed or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ended_at: Option<Timestamp>,
    /// How long the node was out of service, in seconds; absent until it is back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable_seconds: Option<i64>,
}

/// What a validation pod said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ValidationResult {
    /// Exit code; absent when the pod did not end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The end of its output, at most 1024 bytes: what it wrote to /dev/termination-log, or the last lines of its log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// How long it ran, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
}

impl CXIPreflightSpec {
    /// Whether a canary node is asked for.
    pub fn has_node(&self) -> bool {
        self.node.is_some() || !self.node_selector.is_empty()
    }

    /// The spec that the CXIDriver would have.
    pub fn candidate(&self, driver: &CXIDriverSpec) -> CXIDriverSpec {
        let mut candidate = driver.clone();
        candidate.version.clone_from(self.version.as_ref().unwrap_or(&driver.version));
        candidate.source.clone_from(self.source.as_ref().unwrap_or(&driver.source));
        candidate
    }
}

impl CXIPreflightStatus {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Some(PreflightPhase::Succeeded | PreflightPhase::Failed))
    }
}

impl Trial {
    /// Whether the release has passed or failed.
    pub fn is_over(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Whether the release has passed.
    pub fn passed(&self) -> bool {
        self.is_over() && self.failure.is_none()
    }
}
