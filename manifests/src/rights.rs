//! Who may do what: the rights of the operator; those of an operand are in its file in [`operands`]. No rule has a wildcard, none reads Secrets, no
//! account is cluster-admin; each says what it is for.

use std::collections::BTreeMap;

use cxi_api::names::{AGENT_POLICY, MANAGED_BY_LABEL, MODULE_LOADER_ACCOUNT, OPERATOR, SIDECAR_POLICY};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

pub use crate::rule::Rule;
use crate::{
    operands::{self, OPERANDS},
    rule::rule,
};

/// Namespace that the manifests install into.
pub const NAMESPACE: &str = "cxi-operator";

/// Name of the role that lets operands run on `OpenShift`.
pub const OPENSHIFT: &str = "cxi-operands-openshift";

/// What the operator may do in the whole cluster.
pub const OPERATOR_CLUSTER: &[Rule] = &[
    rule(
        "cxi.hpe.com",
        &["cxidrivers"],
        &["list", "watch", "patch"],
        "read what is wanted; set and remove the finalizer",
    ),
    rule("cxi.hpe.com", &["cxidrivers/status"], &["patch"], "report"),
    rule(
        "cxi.hpe.com",
        &["cxipreflights"],
        &["list", "watch", "delete"],
        "what is asked; delete it when its time is over",
    ),
    rule("cxi.hpe.com", &["cxipreflights/status"], &["patch"], "answer"),
    rule(
        "cxi.hpe.com",
        &["cxinodes"],
        &["get", "list", "watch", "create", "delete"],
        "one record per node, read uncached before a driver is unloaded",
    ),
    rule("cxi.hpe.com", &["cxinodes/status"], &["patch"], "the node's place in the rollout"),
    rule("", &["nodes"], &["get", "list", "watch", "patch"], "labels that load drivers and open gates, one taint"),
    rule("", &["pods"], &["list", "watch"], "find the pods that hold a NIC"),
    rule("", &["pods/eviction"], &["create"], "empty a node of pods that hold a NIC"),
    rule("", &["pods"], &["delete"], "drain.onTimeout: Force; one-shot pods of the operator that have ended"),
    rule("policy", &["poddisruptionbudgets"], &["list", "watch"], "do not close a node whose pods may not be evicted"),
    rule("kmm.sigs.x-k8s.io", &["nodemodulesconfigs"], &["list", "watch"], "what KMM has loaded on each node"),
    Rule {
        group: "admissionregistration.k8s.io",
        resources: &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        verbs: &["get"],
        names: &[AGENT_POLICY],
        reason: "start no node agent before the policy is there that keeps it to its own node",
    },
    Rule {
        group: "admissionregistration.k8s.io",
        resources: &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
        verbs: &["get"],
        names: &[SIDECAR_POLICY],
        reason: "say whether sidecars are added; it is the installation that adds them",
    },
    rule(
        "events.k8s.io",
        &["events"],
        &["create"],
        "tell people; events of Nodes and CXIDrivers are in namespace default",
    ),
];

/// What the operator may do in its own namespace.
pub const OPERATOR_NAMESPACED: &[Rule] = &[
    rule("coordination.k8s.io", &["leases"], &["create"], "one operator works at a time"),
    Rule {
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["get", "update"],
        names: &[OPERATOR],
        reason: "one operator works at a time",
    },
    rule("apps", &["daemonsets"], &["list", "watch", "create", "patch", "delete"], "the operands"),
    rule("kmm.sigs.x-k8s.io", &["modules"], &["list", "watch", "create", "delete"], "one Module per driver revision"),
    rule(
        "",
        &["configmaps"],
        &["list", "watch", "create"],
        "the Containerfile of each revision whose images KMM builds, which goes with the Module that owns it; the layout it is made of",
    ),
    rule(
        "kmm.sigs.x-k8s.io",
        &["moduleimagesconfigs"],
        &["list", "watch", "create"],
        "which driver images exist; ask KMM about images for a CXIPreflight",
    ),
    rule(
        "",
        &["pods"],
        &["create"],
        "one-shot pods that pull images, take out leftovers, have hosts load their driver and validate nodes",
    ),
];

/// What the operator may do beyond that where OLM installs it.
pub const OPERATOR_OLM: &[Rule] = &[Rule {
    group: "admissionregistration.k8s.io",
    resources: &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
    verbs: &["create", "patch"],
    names: &[AGENT_POLICY],
    reason: "a bundle cannot carry the policy that keeps node agents to their own nodes, so the operator applies it",
}];

/// What operands may do beyond that on `OpenShift`, in their namespace.
pub const OPERANDS_OPENSHIFT: &[Rule] = &[Rule {
    group: "security.openshift.io",
    resources: &["securitycontextconstraints"],
    verbs: &["use"],
    names: &["privileged"],
    reason: "devices and directories of the host",
}];

/// The namespace. KMM's workers and the device plugin use host paths, which Pod Security admission must allow there.
pub fn namespace() -> Namespace {
    let levels = ["enforce", "audit", "warn"]
        .map(|mode| (format!("pod-security.kubernetes.io/{mode}"), "privileged".to_owned()));
    let mut metadata = metadata(NAMESPACE, None);
    metadata.labels.get_or_insert_default().extend(levels);
    Namespace { metadata, ..Namespace::default() }
}

/// Every `ServiceAccount`.
pub fn accounts() -> Vec<&'static str> {
    [vec![OPERATOR], accounts_on_nodes()].concat()
}

/// The accounts whose pods use devices and files of the host.
pub fn accounts_on_nodes() -> Vec<&'static str> {
    let operands = OPERANDS.iter().map(|operand| operand.account);
    std::iter::once(MODULE_LOADER_ACCOUNT).chain(operands).collect()
}

/// A `ServiceAccount`. Pods of those that do not talk to the API server get no token.
pub fn account(name: &str) -> ServiceAccount {
    let talks = name == OPERATOR || operands::rights().any(|(account, _)| account == name);
    ServiceAccount {
        automount_service_account_token: (!talks).then_some(false),
        metadata: metadata(name, Some(NAMESPACE)),
        ..ServiceAccount::default()
    }
}

/// Rules for the whole cluster, and who has them.
pub fn cluster_role(account: &str, rules: &[Rule]) -> (ClusterRole, ClusterRoleBinding) {
    let role =
        ClusterRole { metadata: metadata(account, None), rules: Some(policy_rules(rules)), aggregation_rule: None };
    let binding = ClusterRoleBinding {
        metadata: metadata(account, None),
        role_ref: reference("ClusterRole", account),
        subjects: Some(vec![subject(account)]),
    };
    (role, binding)
}

/// Rules for the operator's namespace, and who has them.
pub fn role(account: &str, rules: &[Rule]) -> (Role, RoleBinding) {
    let role = Role { metadata: metadata(account, Some(NAMESPACE)), rules: Some(policy_rules(rules)) };
    let binding = RoleBinding {
        metadata: metadata(account, Some(NAMESPACE)),
        role_ref: reference("Role", account),
        subjects: Some(vec![subject(account)]),
    };
    (role, binding)
}

/// What lets the operands' pods run on `OpenShift`; elsewhere it says nothing.
pub fn openshift() -> (Role, RoleBinding) {
    let (role, mut binding) = role(OPENSHIFT, OPERANDS_OPENSHIFT);
    binding.subjects = Some(accounts_on_nodes().into_iter().map(subject).collect());
    (role, binding)
}

/// Rules as RBAC has them.
pub fn policy_rules(rules: &[Rule]) -> Vec<PolicyRule> {
    rules.iter().map(Rule::policy).collect()
}

fn metadata(name: &str, namespace: Option<&str>) -> ObjectMeta {
    let labels = [
        (MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), OPERATOR.to_owned()),
    ];
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(BTreeMap::from(labels)),
        ..ObjectMeta::default()
    }
}

fn reference(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: "rbac.authorization.k8s.io".to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

fn subject(account: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
        namespace: Some(NAMESPACE.to_owned()),
        ..Subject::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reads other people's secrets, or runs something as another user.
    const FORBIDDEN: [&str; 7] = [
        "secrets",
        "serviceaccounts",
        "serviceaccounts/token",
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "nodes/proxy",
    ];

    #[test]
    fn no_account_may_do_everything() {
        let ours = [OPERATOR_CLUSTER, OPERATOR_NAMESPACED, OPERATOR_OLM, OPERANDS_OPENSHIFT];
        for rule in ours.into_iter().chain(operands::rights().map(|(_, rules)| rules)).flatten() {
            let words = [rule.resources, rule.verbs, &[rule.group]].concat();
            assert!(words.iter().all(|word| !word.contains('*')), "{rule:?}");
            assert!(!rule.resources.iter().any(|resource| FORBIDDEN.contains(resource)), "{rule:?}");
            assert!(!rule.verbs.iter().any(|verb| ["escalate", "bind", "impersonate"].contains(verb)), "{rule:?}");
            assert!(rule.group != "rbac.authorization.k8s.io", "{rule:?}");
            assert!(!rule.reason.is_empty() && !rule.verbs.is_empty(), "{rule:?}");
        }
    }
}
