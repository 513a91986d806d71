//! A CXIPreflight.

use cxi_api::{CXIPreflight, CXIPreflightStatus, Timestamp, preflight::CXIPreflightSpec};

use super::{
    Kind,
    driver::{Wire, part, with_good_conditions},
    fields::created,
    without_values,
};

/// What counts of a CXIPreflight.
#[derive(Clone, Debug, PartialEq)]
pub struct Preflight {
    /// metadata.generation.
    pub generation: i64,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Spec, with defaults.
    pub spec: Box<CXIPreflightSpec>,
    /// Status as last written; the default before the first.
    pub status: Box<CXIPreflightStatus>,
}

impl Kind for Preflight {
    type Api = CXIPreflight;
    type Remains = ();

    fn parse(json: &str) -> Result<Option<Self>, String> {
        let Wire { metadata, spec, status } = serde_json::from_str(json).map_err(|error| without_values(&error))?;
        Ok(Some(Self {
            generation: metadata.generation,
            created: created(metadata.creation_timestamp.as_ref()),
            deleting: metadata.deletion_timestamp.is_some(),
            spec: part("spec", spec.get())?,
            status: status.map(|raw| part("status", &with_good_conditions(raw.get()))).transpose()?.unwrap_or_default(),
        }))
    }
}
