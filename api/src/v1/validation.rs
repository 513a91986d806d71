//! The validation pod: a program of the site that says whether a node with a new driver is fit for jobs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{duration::GoDuration, limits};

/// A pod that the operator runs on a node after it has verified the driver there, and before the node is offered to jobs. The node
/// passes when the pod ends with exit code 0.
///
/// The pod runs in the operator's namespace, in the host's network and with all of the node's NICs under /dev. It has the rights to use
/// them: a user who may write this field has root on the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Image of the pod. It brings the test program with the libraries that it needs.
    #[schemars(schema_with = "limits::required_image")]
    pub image: String,
    /// Command; default: that of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Arguments; default: those of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// Environment. The operator adds CXI_NODE (the node's name), CXI_DEVICES (the NICs to test, such as cxi0,cxi1), CXI_VERSION (the
    /// driver release) and CXI_REVISION.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<Variable>,
    /// How many NICs the test needs. Default: all that the node had before, or all that are there. A node with fewer fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self >= 1 && self <= 64", "message": "nics must be from 1 to 64"}]))]
    pub nics: Option<i32>,
    /// How long the pod may take, from its start to its end. A pod that takes longer has failed.
    #[serde(default = "ten_minutes")]
    pub timeout: GoDuration,
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Variable {
    /// Name.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = [{"rule": "self.matches('^[A-Za-z_][A-Za-z0-9_]*$')", "message": "name of a variable must have letters, digits and '_', and must not begin with a digit"}]))]
    pub name: String,
    /// Value.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

fn ten_minutes() -> GoDuration {
    GoDuration::minutes(10)
}
