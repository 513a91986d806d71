//! Objects as the harness reads them. A scenario may write what Rust's types do not take, and oracle and soft nodes are to see the
//! rest of it all the same.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;

/// An object without the bookkeeping of the API server, and without the report of a CXINode if that cannot be read.
#[derive(Clone, Debug)]
pub struct Plain<K>(pub K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Plain<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let read = K::deserialize(&object).or_else(|_| {
            if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
                status.remove("node");
            }
            K::deserialize(&object)
        });
        read.map(Self).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Plain<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}
