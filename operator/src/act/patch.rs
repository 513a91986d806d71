//! JSON patches that fail when the object is not as it was seen. The API server answers 422 when a `test` fails.

use cxi_api::names::OPERATOR;
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    act::Error,
    endpoint::Endpoint,
    observe::seen::{Kind, Reading},
};

/// A patch under construction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guarded(Vec<Value>);

impl Guarded {
    /// A patch of the object with this UID.
    pub fn of(uid: &str) -> Self {
        Self(Vec::new()).test("/metadata/uid", &uid)
    }

    /// Fails when anything of the object changed: for facts that `test` cannot express, such as the absence of a field.
    #[must_use]
    pub fn unchanged(self, resource_version: &str) -> Self {
        self.test("/metadata/resourceVersion", &resource_version)
    }

    /// Fails when a value differs.
    #[must_use]
    pub fn test(self, path: &str, value: &impl Serialize) -> Self {
        self.step("test", path, Some(json!(value)))
    }

    /// Adds or replaces a member, or inserts into a list.
    #[must_use]
    pub fn add(self, path: &str, value: &impl Serialize) -> Self {
        self.step("add", path, Some(json!(value)))
    }

    /// Removes.
    #[must_use]
    pub fn remove(self, path: &str) -> Self {
        self.step("remove", path, None)
    }

    fn step(mut self, operation: &str, path: &str, value: Option<Value>) -> Self {
        let mut step = json!({ "op": operation, "path": path });
        if let Some(value) = value {
            step["value"] = value;
        }
        self.0.push(step);
        self
    }

    /// Sends it to the object.
    ///
    /// # Errors
    /// When a guard fails, or the API server cannot be reached.
    pub async fn send<K: Kind>(self, endpoint: &Endpoint<K>, name: &str) -> Result<Reading<K>, Error> {
        Ok(endpoint.patch(name, &parameters(), &self.patch()?).await?)
    }

    /// Sends it to the object's status.
    ///
    /// # Errors
    /// When a guard fails, or the API server cannot be reached.
    pub async fn send_status<K: Kind>(self, endpoint: &Endpoint<K>, name: &str) -> Result<Reading<K>, Error> {
        Ok(endpoint.patch_status(name, &parameters(), &self.patch()?).await?)
    }

    fn patch(self) -> Result<Patch<()>, Error> {
        Ok(Patch::Json(serde_json::from_value(Value::Array(self.0))?))
    }
}

/// Who writes.
fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(OPERATOR.to_owned()), ..PatchParams::default() }
}

/// Path of a label in a JSON patch (RFC 6901: `~` and `/` are written `~0` and `~1`).
pub fn label_path(key: &str) -> String {
    format!("/metadata/labels/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("cxi.hpe.com/driver", "/metadata/labels/cxi.hpe.com~1driver")]
    #[case("a~b/c~1", "/metadata/labels/a~0b~1c~01")]
    fn paths_are_escaped(#[case] key: &str, #[case] path: &str) {
        assert_eq!(label_path(key), path);
    }

    #[test]
    fn guards_come_first() {
        let patch = Guarded::of("u").unchanged("7").test("/a", &1).remove("/a").add("/b", &"x");
        let expected = json!([
            { "op": "test", "path": "/metadata/uid", "value": "u" },
            { "op": "test", "path": "/metadata/resourceVersion", "value": "7" },
            { "op": "test", "path": "/a", "value": 1 },
            { "op": "remove", "path": "/a" },
            { "op": "add", "path": "/b", "value": "x" },
        ]);
        assert_eq!(Value::Array(patch.0), expected);
    }
}
