//! Objects that the operator makes in its namespace: DaemonSets of operands, and Containerfiles in `ConfigMaps`. Nothing of them is
//! planned on that cannot be read, so that all of them can.

use cxi_api::names::{DRIVER_LABEL, RENDERED_ANNOTATION, RESOURCE_ANNOTATION, ROLE_LABEL};
use k8s_openapi::api::{apps::v1, core::v1::ConfigMap};
use serde::Deserialize;
use serde_json::Value;

use super::{Kind, Labels, fields::lenient, typed};

/// What counts of a DaemonSet of ours. Its template is compared by generation and hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonSet {
    /// Labels that say which operand it is, and of which CXIDriver.
    pub labels: Labels,
    /// metadata.generation.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Hash of what was applied.
    pub hash: Option<Box<str>>,
    /// Resource that its pods offer.
    pub resource: Option<Box<str>>,
    /// `status.numberReady`; absent before the DaemonSet controller has looked.
    pub number_ready: Option<i32>,
    /// Nodes that should have a pod and have none of the present template, as far as the DaemonSet controller has seen that; absent before
    /// it has looked.
    pub number_outdated: Option<i32>,
}

#[derive(Deserialize)]
struct Wire {
    metadata: Meta,
    #[serde(default, deserialize_with = "lenient")]
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default, deserialize_with = "lenient")]
    labels: Labels,
    #[serde(default, deserialize_with = "lenient")]
    annotations: serde_json::Map<String, Value>,
    #[serde(default, deserialize_with = "lenient")]
    generation: i64,
    #[serde(default)]
    deletion_timestamp: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    number_ready: i32,
    #[serde(default)]
    observed_generation: i64,
    #[serde(default)]
    desired_number_scheduled: i32,
    #[serde(default)]
    updated_number_scheduled: i32,
}

impl Status {
    fn outdated(&self, generation: i64) -> i32 {
        let updated = if self.observed_generation >= generation { self.updated_number_scheduled } else { 0 };
        self.desired_number_scheduled.saturating_sub(updated)
    }
}

impl Kind for DaemonSet {
    type Api = v1::DaemonSet;
    type Remains = ();

    fn parse(json: &str) -> Result<Option<Self>, String> {
        let Wire { metadata, status } = typed(json)?;
        let annotation = |key: &str| metadata.annotations.get(key).and_then(Value::as_str).map(Into::into);
        Ok(Some(Self {
            labels: metadata.labels.only(&[ROLE_LABEL, DRIVER_LABEL]),
            generation: metadata.generation,
            deleting: metadata.deletion_timestamp.is_some(),
            hash: annotation(RENDERED_ANNOTATION),
            resource: annotation(RESOURCE_ANNOTATION),
            number_ready: status.as_ref().map(|status| status.number_ready),
            number_outdated: status.map(|status| status.outdated(metadata.generation)),
        }))
    }
}

/// A ConfigMap of ours, which is there. Its text is written once and not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Containerfile;

impl Kind for Containerfile {
    type Api = ConfigMap;
    type Remains = ();

    fn parse(_: &str) -> Result<Option<Self>, String> {
        Ok(Some(Self))
    }
}
