//! Custom resources as node programs read them: one field at a time.
//!
//! A node has one CXINode, and what runs there must go on with it whatever else it says: a time in `metadata.managedFields` that Go
//! writes and Rust does not read, or a field of another version of the operator.

use std::{borrow::Cow, marker::PhantomData};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// An object of the kind `K` of which only its identity is typed. Anything that is JSON and has a name can be read as one.
#[derive(Debug)]
pub struct Lenient<K> {
    /// Name, namespace, UID, resource version, labels and owners; everything else is empty, whatever the object has.
    pub metadata: ObjectMeta,
    /// The object without its metadata.
    pub data: Value,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Lenient<K> {
    fn clone(&self) -> Self {
        Self { metadata: self.metadata.clone(), data: self.data.clone(), kind: PhantomData }
    }
}

#[derive(Deserialize)]
struct Wire {
    metadata: Meta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default)]
    labels: Value,
    #[serde(default)]
    owner_references: Value,
}

impl<'de, K> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { metadata, spec, status } = Wire::deserialize(deserializer)?;
        // What else the metadata has may be anything; what of it cannot be read is absent.
        let labels = serde_json::from_value(metadata.labels).unwrap_or_default();
        let owner_references = serde_json::from_value(metadata.owner_references).unwrap_or_default();
        if metadata.name.is_empty() {
            return Err(de::Error::custom("an object without a name"));
        }
        let metadata = ObjectMeta {
            name: Some(metadata.name),
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            labels,
            owner_references,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, data: serde_json::json!({ "spec": spec, "status": status }), kind: PhantomData })
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Lenient<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CXINode;
    use serde_json::json;

    #[test]
    fn whatever_an_object_says_it_is_read() {
        let object = json!({
            "apiVersion": "cxi.hpe.com/v9", "kind": "CXINode",
            "metadata": {
                "name": "n", "uid": "u", "resourceVersion": "7", "labels": 5, "deletionTimestamp": "soon",
                "managedFields": [{"time": "9999-12-31T23:59:59Z"}], "creationTimestamp": "9999-12-31T23:59:59Z",
            },
            "status": {"node": {"observedAt": "9999-12-31T23:59:59Z"}, "rollout": [1]},
        });
        let read: Lenient<CXINode> = serde_json::from_value(object).unwrap();
        assert_eq!(read.metadata.name.as_deref(), Some("n"));
        assert_eq!((read.metadata.uid.as_deref(), read.metadata.resource_version.as_deref()), (Some("u"), Some("7")));
        assert_eq!(read.metadata.labels, None);
        assert_eq!(read.data["status"]["rollout"], json!([1]));
        assert_eq!(Lenient::<CXINode>::url_path(&(), None), "/apis/cxi.hpe.com/v1/cxinodes");
    }

    #[test]
    fn something_without_a_name_is_no_object() {
        for object in [json!({}), json!({"metadata": {}}), json!({"metadata": {"name": ""}}), json!(5)] {
            assert!(serde_json::from_value::<Lenient<CXINode>>(object).is_err());
        }
    }
}
