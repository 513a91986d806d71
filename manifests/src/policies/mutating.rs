//! What the `MutatingAdmissionPolicies` for pods have in common. Each is evaluated once per `CXIDriver`, which is its parameter:
//! the resource that stands for a NIC and the images are the cluster's, not the manifest's. The operator writes no policy, and
//! needs no right to.
//!
//! `admissionregistration.k8s.io/v1` serves the kind from Kubernetes 1.36 on (`apiserver/pkg/features`: `MutatingAdmissionPolicy`).

use cxi_api::names::{GROUP, MANAGED_BY_LABEL, OPERATOR};
use serde_json::{Value, json};

/// API version of policies and bindings.
const API: &str = "admissionregistration.k8s.io/v1";

/// What differs.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Name of policy and binding.
    pub name: &'static str,
    /// Which namespaces; all when absent.
    pub namespaces: Option<fn() -> Value>,
    /// What becomes of pods that the policy cannot be evaluated for. The API server then knows no conditions either: while there
    /// is no CRD for the parameters, as during an uninstallation, that is every pod in these namespaces.
    pub failure: Failure,
    /// Name and CEL; all must hold.
    pub conditions: &'static [(&'static str, &'static str)],
    /// Name and CEL, in the order of their use.
    pub variables: &'static [(&'static str, &'static str)],
    /// The change: its type, the field of the type, and CEL.
    pub mutation: (&'static str, &'static str, &'static str),
}

/// What becomes of pods that a policy cannot be evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// They are refused.
    Refuse,
    /// They are left as they are.
    Pass,
}

impl Failure {
    /// As Kubernetes spells it.
    fn policy(self) -> &'static str {
        match self {
            Self::Refuse => "Fail",
            Self::Pass => "Ignore",
        }
    }
}

/// Whether a pod asks for a NIC. An extended resource has a limit, and its request equals it.
pub const ASKS: &str = "(object.spec.containers + object.spec.?initContainers.orValue([])).exists(c, \
    c.?resources.?limits[?params.spec.devicePlugin.resourceName].hasValue())";

/// The policy.
pub fn policy(policy: &Policy) -> Value {
    let table = |rows: &[(&str, &str)]| -> Value {
        rows.iter().map(|(name, expression)| json!({ "name": name, "expression": expression })).collect()
    };
    let (kind, field, expression) = policy.mutation;
    let mut constraints = json!({
        "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
    });
    if let Some(selector) = policy.namespaces {
        constraints["namespaceSelector"] = selector();
    }
    json!({
        "apiVersion": API,
        "kind": "MutatingAdmissionPolicy",
        "metadata": metadata(policy.name),
        "spec": {
            "failurePolicy": policy.failure.policy(),
            "reinvocationPolicy": "IfNeeded",
            "paramKind": { "apiVersion": format!("{GROUP}/v1"), "kind": "CXIDriver" },
            "matchConstraints": constraints,
            "matchConditions": table(policy.conditions),
            "variables": table(policy.variables),
            "mutations": [{ "patchType": kind, field: { "expression": expression } }],
        },
    })
}

/// The binding that puts a policy into force, for every CXIDriver there is.
pub fn binding(policy: &Policy) -> Value {
    json!({
        "apiVersion": API,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": metadata(policy.name),
        "spec": {
            "policyName": policy.name,
            "paramRef": { "selector": {}, "parameterNotFoundAction": "Allow" },
        },
    })
}

fn metadata(name: &str) -> Value {
    json!({ "name": name, "labels": { MANAGED_BY_LABEL: OPERATOR, "app.kubernetes.io/part-of": OPERATOR } })
}
