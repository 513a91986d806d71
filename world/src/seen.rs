//! Objects as they are read: of each kind a type of our own with the fields that are used, and nothing else.
//!
//! What the API server accepts is more than Rust types take: Go's times go on where jiff's end, a tenant writes whatever its
//! `managedFields` may hold, and a CXIDriver or CXINode may be of another version of the operator. So
//! - an object is known by its [`Identity`], which is text, and every field that is not used is skipped unread;
//! - times and quantities of others are read where they are used, with a fallback that is on the safe side ([`fields`]);
//! - an object of which a field that counts cannot be read is there all the same, as [`Unreadable`]. One object is never the
//!   reason that another one cannot be read.

mod budget;
mod driver;
pub mod fields;
mod kmm;
mod labels;
mod node;
mod operands;
mod own_pod;
mod pod;
mod preflight;
mod record;

use std::{fmt::Debug, sync::Arc};

use kube::Resource;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

pub use budget::Budget;
pub use driver::{Driver, DriverRemains};
pub use kmm::{Images, Loaded, Module};
pub use labels::Labels;
pub use node::Node;
pub use operands::{Containerfile, DaemonSet};
pub use own_pod::{ContainerState, ContainerStatus, OwnPod, PodStatus};
pub use pod::{OnNode, Pod, PodRemains};
pub use preflight::Preflight;
pub use record::Record;

/// A kind as it is read.
pub trait Kind: Clone + Debug + PartialEq + Send + Sync + Sized + 'static {
    /// The API's own type, for its name and path.
    type Api: Resource<DynamicType = ()>;

    /// What of an object that cannot be read as a whole is of use all the same.
    type Remains: Clone + Debug + Default + PartialEq + Send + Sync;

    /// Reads the JSON of an object; `None` when the object is of no interest.
    ///
    /// # Errors
    /// When a field that counts cannot be read: which one, and why. Of objects that tenants write, it says no values, because the
    /// words end up in the log.
    fn parse(json: &str) -> Result<Option<Self>, String>;

    /// What can be read of an object that [`Kind::parse`] failed on; `None` when the object is of no interest.
    fn remains(_json: &str) -> Option<Self::Remains> {
        Some(Self::Remains::default())
    }

    /// What of the object could not be read although it is of use without.
    fn complaint(&self) -> Option<&str> {
        None
    }

    /// Name of the kind.
    fn kind() -> String {
        Self::Api::kind(&()).into_owned()
    }
}

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<K: Kind> {
    /// Who it is.
    pub id: Identity,
    /// What it says.
    pub content: Result<K, Unreadable<K::Remains>>,
}

/// Who an object is, all as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace (empty for cluster-scoped kinds), a slash, and the name. Neither can have a slash.
    key: Arc<str>,
    /// UID.
    pub uid: Box<str>,
    /// resourceVersion.
    pub version: Box<str>,
}

/// An object that is there and cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable<R> {
    /// Which field, and why.
    pub why: Box<str>,
    /// What can be read all the same.
    pub remains: R,
}

/// An object in an answer of the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<K: Kind> {
    /// Who it is.
    pub id: Identity,
    /// Whether it is being deleted and nothing holds it any more: after this answer it is gone.
    pub ended: bool,
    /// What it says; `None` when the object is of no interest.
    pub content: Option<Result<K, Unreadable<K::Remains>>>,
}

/// The JSON of something that does not even say which object it is.
#[derive(Debug, thiserror::Error)]
#[error("an answer that does not name its object: {0}")]
pub struct Nameless(String);

impl From<&serde_json::Error> for Nameless {
    fn from(error: &serde_json::Error) -> Self {
        Self(without_values(error))
    }
}

// === impl Identity ===

impl Identity {
    /// An identity. Tests and fallbacks make some; the others are read.
    pub fn new(namespace: &str, name: &str, uid: &str, version: &str) -> Self {
        Self { key: format!("{namespace}/{name}").into(), uid: uid.into(), version: version.into() }
    }

    /// Namespace and name, as a key.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Namespace; empty for cluster-scoped kinds.
    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Name.
    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }

    /// `<namespace>/<name>`, or the name of an object without a namespace.
    pub fn full_name(&self) -> &str {
        self.key.strip_prefix('/').unwrap_or(&self.key)
    }

    /// The resource version as a number, by which objects of one kind are ordered.
    pub fn order(&self) -> u64 {
        order(&self.version)
    }
}

/// A resource version as a number; the oldest when it is none.
pub fn order(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}

// === impl Object ===

impl<K: Kind> Object<K> {
    /// What it says, if that can be read.
    pub fn readable(&self) -> Option<&K> {
        self.content.as_ref().ok()
    }

    /// What of it cannot be read, and why.
    pub fn trouble(&self) -> Option<&str> {
        match &self.content {
            Ok(content) => content.complaint(),
            Err(unreadable) => Some(&unreadable.why),
        }
    }

    /// Kind and name of an object that cannot be read, and why.
    pub fn unreadable(&self) -> Option<String> {
        let why = &self.content.as_ref().err()?.why;
        Some(format!("{} {} cannot be read: {why}", K::kind(), self.id.full_name()))
    }
}

impl<K: Kind> Reading<K> {
    /// The object, unless it is of no interest.
    pub fn object(&self) -> Option<Object<K>> {
        Some(Object { id: self.id.clone(), content: self.content.clone()? })
    }
}

// === reading ===

#[derive(Deserialize)]
struct Head {
    metadata: Names,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Names {
    #[serde(default)]
    namespace: Option<String>,
    name: String,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    resource_version: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ending {
    deletion_timestamp: Option<IgnoredAny>,
    deletion_grace_period_seconds: Option<i64>,
    finalizers: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Tail {
    metadata: Ending,
}

/// Reads the JSON of an object.
///
/// # Errors
/// When it does not say which object it is. One that says so is read in any case.
pub fn read<K: Kind>(json: &str) -> Result<Reading<K>, Nameless> {
    let Head { metadata } = serde_json::from_str(json).map_err(|error| Nameless::from(&error))?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let id = Identity::new(
        &text(&metadata.namespace),
        &metadata.name,
        &text(&metadata.uid),
        &text(&metadata.resource_version),
    );
    let ended = serde_json::from_str::<Tail>(json).is_ok_and(|Tail { metadata }| {
        metadata.deletion_timestamp.is_some()
            && metadata.finalizers.is_none_or(|all| all.is_empty())
            && metadata.deletion_grace_period_seconds.is_none_or(|seconds| seconds == 0)
    });
    let content = match K::parse(json) {
        Ok(content) => content.map(Ok),
        Err(why) => K::remains(json).map(|remains| Err(Unreadable { why: why.into(), remains })),
    };
    Ok(Reading { id, ended, content })
}

/// Reads an object, or says at which field it failed; without values.
fn typed<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| format!("{}: {}", error.path(), without_values(error.inner())))
}

/// What is wrong, without the value that is: it may be a secret of a tenant.
fn without_values(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "not of the type that the API has there",
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => "not JSON",
        serde_json::error::Category::Io => "cannot be read",
    };
    format!("{what} (column {})", error.column())
}

/// The object that this JSON describes.
#[cfg(test)]
pub(crate) fn given<K: Kind>(json: &serde_json::Value) -> Arc<Object<K>> {
    Arc::new(read(&json.to_string()).unwrap().object().expect("an object that counts"))
}

#[cfg(test)]
#[path = "seen/tests.rs"]
mod tests;
