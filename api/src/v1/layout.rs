//! `CXIDriver.spec.source.dkms.layout`: where the layout of a release is.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Key of a layout in its `ConfigMap`, when none is named.
pub const LAYOUT_KEY: &str = "layout.yaml";

/// A layout in a `ConfigMap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct LayoutReference {
    /// Name of a ConfigMap in the operator's namespace that has `immutable: true`. Another layout is another ConfigMap, and so a new
    /// revision, to which nodes move in order.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("!format.dns1123Subdomain().validate(self).hasValue()").message("source.dkms.layout.name must be the name of a ConfigMap: lower-case letters, digits, '-' and '.'"))]
    pub name: String,
    /// Key in it.
    #[serde(default = "key")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._-]+$')").message("source.dkms.layout.key must be a key of a ConfigMap, such as layout.yaml"))]
    pub key: String,
}

fn key() -> String {
    LAYOUT_KEY.to_owned()
}
