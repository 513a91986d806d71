//! CXIPreflights as observed.

use std::{collections::BTreeMap, sync::Arc};

use cxi_api::{CXIDriverSpec, CXIPreflightStatus, RevisionId, Timestamp, preflight::CXIPreflightSpec};

use super::Image;

/// A CXIPreflight.
#[derive(Clone, Debug, PartialEq)]
pub struct Preflight {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// metadata.generation.
    pub generation: i64,
    /// metadata.creationTimestamp.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Spec, with defaults.
    pub spec: CXIPreflightSpec,
    /// Status as last written.
    pub status: CXIPreflightStatus,
    /// What it asks about; absent where its CXIDriver does not exist or cannot be read.
    pub candidate: Option<Candidate>,
    /// The image that the candidate has for a kernel: for each kernel of the cluster's nodes and of the spec for which there is one.
    pub mapped: BTreeMap<String, String>,
    /// Why the API server refused the candidate's Module, or why there is no Containerfile by which KMM could build, in words.
    pub module_refused: Option<String>,
    /// What KMM says of the images that it was asked about for this object alone, by kernel; absent before it was asked.
    pub images: Option<BTreeMap<String, Image>>,
}

/// What a CXIPreflight asks about.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its revision.
    pub revision: RevisionId,
    /// The spec that the CXIDriver would have.
    pub spec: Arc<CXIDriverSpec>,
}
