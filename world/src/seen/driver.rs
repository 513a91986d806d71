//! A CXIDriver.

use std::sync::Arc;

use cxi_api::{
    CXIDriver, CXIDriverSpec, CXIDriverStatus, Timestamp,
    names::{
        DEFAULT_RESOURCE, INSTALLATION_ANNOTATION, MAX_UNSELECTED_ANNOTATION, ORPHAN_ANNOTATION, RESUME_ANNOTATION,
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::{
    Kind,
    fields::{created, lenient, or_default},
};

/// Longest value that is named in words, in characters.
const SHOWN: usize = 100;

/// What counts of a CXIDriver.
#[derive(Clone, Debug, PartialEq)]
pub struct Driver {
    /// metadata.generation.
    pub generation: i64,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Finalizers, in their order.
    pub finalizers: Box<[Box<str>]>,
    /// Annotation `cxi.hpe.com/orphan`.
    pub orphan: Option<Box<str>>,
    /// Annotation `cxi.hpe.com/resume`.
    pub resume: Option<Box<str>>,
    /// Annotation `cxi.hpe.com/installation`.
    pub installation: Option<Box<str>>,
    /// Annotation `cxi.hpe.com/max-unselected`.
    pub max_unselected: Option<Box<str>>,
    /// Spec, with defaults.
    pub spec: Arc<CXIDriverSpec>,
    /// Status as last written; the default before the first.
    pub status: Box<CXIDriverStatus>,
}

/// What counts of a CXIDriver that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverRemains {
    /// What its condition `Blocked` with the reason `Unreadable` says, if that is True.
    pub said: Option<Box<str>>,
    /// Resources under which its NICs may be offered.
    pub resources: Vec<String>,
}

/// An object of ours that administrators write: its parts are read one by one, so that what is wrong can be named.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    pub metadata: Meta,
    #[serde(borrow)]
    pub spec: &'a RawValue,
    #[serde(borrow, default)]
    pub status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    #[serde(default, deserialize_with = "or_default")]
    pub generation: i64,
    #[serde(default)]
    pub creation_timestamp: Option<Value>,
    #[serde(default)]
    pub deletion_timestamp: Option<Value>,
    #[serde(default, deserialize_with = "or_default")]
    finalizers: Box<[Box<str>]>,
    #[serde(default, deserialize_with = "lenient")]
    annotations: serde_json::Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rest<'a> {
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

impl Kind for Driver {
    type Api = CXIDriver;
    type Remains = DriverRemains;

    fn parse(json: &str) -> Result<Option<Self>, String> {
        let Wire { metadata, spec, status } = serde_json::from_str(json).map_err(|error| words(&error))?;
        let annotation = |key: &str| metadata.annotations.get(key).and_then(Value::as_str).map(Into::into);
        Ok(Some(Self {
            generation: metadata.generation,
            created: created(metadata.creation_timestamp.as_ref()),
            deleting: metadata.deletion_timestamp.is_some(),
            orphan: annotation(ORPHAN_ANNOTATION),
            resume: annotation(RESUME_ANNOTATION),
            installation: annotation(INSTALLATION_ANNOTATION),
            max_unselected: annotation(MAX_UNSELECTED_ANNOTATION),
            spec: Arc::new(part("spec", spec.get())?),
            status: status.map(|raw| part("status", &with_good_conditions(raw.get()))).transpose()?.unwrap_or_default(),
            finalizers: metadata.finalizers,
        }))
    }

    fn remains(json: &str) -> Option<DriverRemains> {
        let Rest { spec, status } = serde_json::from_str(json).unwrap_or_default();
        let value = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let (spec, status): (Value, Value) = (value(spec).unwrap_or_default(), value(status).unwrap_or_default());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let offered = text(&spec["devicePlugin"]["resourceName"]);
        let earlier = status["resourceNames"].as_array().into_iter().flatten().filter_map(text);
        let says = |one: &&Value| one["type"] == "Blocked" && one["status"] == "True" && one["reason"] == "Unreadable";
        let said = status["conditions"].as_array().into_iter().flatten().find(says);
        Some(DriverRemains {
            said: said.and_then(|condition| condition["message"].as_str()).map(Into::into),
            resources: offered.or(Some(DEFAULT_RESOURCE.to_owned())).into_iter().chain(earlier).collect(),
        })
    }
}

/// The status without conditions that cannot be read: they say nothing that is planned on, and are written anew.
pub(super) fn with_good_conditions(json: &str) -> String {
    let Ok(mut status) = serde_json::from_str::<Value>(json) else { return json.to_owned() };
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.retain(|condition| Condition::deserialize(condition).is_ok());
    }
    status.to_string()
}

/// A part that only administrators and the operator write. They have to know which value it is.
pub(super) fn part<T: DeserializeOwned>(name: &str, json: &str) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let place = error.path().to_string();
        let place = if place == "." { name.to_owned() } else { format!("{name}.{place}") };
        format!("{place}{}: {}", value(json, error.path()), words(error.inner()))
    })
}

/// ` (value)`, where there is one that is short enough to be of use.
fn value(json: &str, path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let Ok(mut value) = serde_json::from_str::<Value>(json) else { return String::new() };
    for segment in path {
        value = match segment {
            Segment::Map { key } => value[key].take(),
            Segment::Seq { index } => value[index].take(),
            Segment::Enum { .. } | Segment::Unknown => return String::new(),
        };
    }
    let text = value.to_string();
    if value.is_null() || text.chars().count() > SHOWN { String::new() } else { format!(" ({text})") }
}

/// serde's words, without the place in a line of text that the reader does not have.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words).to_owned()
}
