//! What a node agent may write: its own node's part and nothing else. RBAC says which kinds; it knows no nodes. This
//! admission policy does: an attacker who takes over a node has that node's agent, and must not be able to speak for
//! another.

use std::collections::BTreeMap;

use cxi_api::{
    device::NODE_LABEL,
    names::{AGENT_ACCOUNT, AGENT_POLICY, GROUP, MANAGED_BY_LABEL, OPERATOR},
};
use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec,
        Validation, Variable,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// Key in a token's claims under which the API server names the node of the token's pod (Kubernetes 1.30 and newer,
/// `ServiceAccountTokenPodNodeInfo`).
const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";

/// The policy. It holds for accounts of the agents' name in any namespace: an installation into another one, by
/// whatever tool, needs no change of an expression, which is easily forgotten. An account of that name elsewhere only
/// gets less by it.
pub fn agent() -> ValidatingAdmissionPolicy {
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_conditions: Some(vec![MatchCondition {
            name: "by-a-node-agent".to_owned(),
            expression: format!(
                "request.userInfo.username.startsWith('system:serviceaccount:') && \
                 request.userInfo.username.endsWith(':{AGENT_ACCOUNT}')"
            ),
        }]),
        match_constraints: Some(MatchResources {
            resource_rules: Some(vec![NamedRuleWithOperations {
                api_groups: Some(vec![GROUP.to_owned()]),
                api_versions: Some(vec!["*".to_owned()]),
                operations: Some(["CREATE", "UPDATE", "DELETE"].map(str::to_owned).to_vec()),
                resources: Some(vec!["*/*".to_owned()]),
                ..NamedRuleWithOperations::default()
            }]),
            ..MatchResources::default()
        }),
        variables: Some(variables()),
        validations: Some(validations()),
        ..ValidatingAdmissionPolicySpec::default()
    };
    ValidatingAdmissionPolicy { metadata: metadata(), spec: Some(spec), status: None }
}

/// The binding that puts the policy into force.
pub fn agent_binding() -> ValidatingAdmissionPolicyBinding {
    let spec = ValidatingAdmissionPolicyBindingSpec {
        policy_name: Some(AGENT_POLICY.to_owned()),
        validation_actions: Some(vec!["Deny".to_owned()]),
        ..ValidatingAdmissionPolicyBindingSpec::default()
    };
    ValidatingAdmissionPolicyBinding { metadata: metadata(), spec: Some(spec) }
}

/// In the order of their use: a variable sees those before it.
fn variables() -> Vec<Variable> {
    let of_claims = format!("request.userInfo.?extra[?'{NODE_CLAIM}'][?0].orValue('')");
    let of_labels = format!("variables.target.metadata.?labels[?'{NODE_LABEL}'].orValue('')");
    let table = [
        ("node", of_claims.as_str()),
        // What is deleted is in oldObject only; what is created in object only.
        ("target", "object == null ? oldObject : object"),
        ("isNode", "request.resource.resource == 'cxinodes'"),
        ("isDevice", "request.resource.resource == 'cxidevices'"),
        ("label", of_labels.as_str()),
        ("hadFinalizers", "oldObject == null ? [] : oldObject.metadata.?finalizers.orValue([])"),
        ("hadOwners", "oldObject == null ? [] : oldObject.metadata.?ownerReferences.orValue([])"),
    ];
    let variable =
        |(name, expression): (&str, &str)| Variable { name: name.to_owned(), expression: expression.to_owned() };
    table.map(variable).to_vec()
}

/// What must hold, and what is said when it does not. The name alone says whose a CXIDevice is, so that an agent can
/// put right whatever other clients did to the rest; the label is what other agents find theirs by.
fn validations() -> Vec<Validation> {
    let owned_by_the_node = format!(
        "!variables.isDevice || object == null || object.metadata.?ownerReferences.orValue([]).all(owner, \
         owner in variables.hadOwners || (owner.apiVersion.startsWith('{GROUP}/') && owner.kind == 'CXINode' && \
         owner.name == variables.node && !owner.?blockOwnerDeletion.orValue(false)))"
    );
    let table = [
        (
            "variables.node != ''",
            "'this token names no node: a node agent must use the token of its own pod, and the API server must put the node \
             into it'",
        ),
        (
            "variables.isDevice || (variables.isNode && request.?subResource.orValue('') == 'status')",
            "'a node agent writes CXIDevices and the status of its CXINode, nothing else'",
        ),
        (
            "!variables.isNode || variables.target.metadata.name == variables.node",
            "'the node agent of ' + variables.node + ' reports about its own node only'",
        ),
        (
            "!variables.isNode || request.operation != 'UPDATE' || \
             object.?status.?rollout == oldObject.?status.?rollout",
            "'a node agent writes status.node only: status.rollout is the operator\\'s'",
        ),
        (
            "!variables.isDevice || (variables.target.metadata.name.startsWith(variables.node + '-') && \
             variables.target.metadata.name.substring(size(variables.node) + 1).matches('^cxi(0|[1-9][0-9]{0,4})$'))",
            "'the node agent of ' + variables.node + ' writes CXIDevices named ' + variables.node + '-cxi<number> only'",
        ),
        (
            // Longer names do not fit into a label, which then has their first 52 characters and a hash (cxi_api::device).
            "!variables.isDevice || object == null || (size(variables.node) <= 63 ? variables.label == variables.node : \
             size(variables.label) == 63 && variables.label.startsWith(variables.node.substring(0, 52) + '-'))",
            "'a CXIDevice carries the label NODE_LABEL with the name of its own node, here ' + variables.node",
        ),
        (
            "!variables.isDevice || object == null || \
             object.?status.?node.orValue(variables.node) == variables.node",
            "'status.node of a CXIDevice is its own node, here ' + variables.node",
        ),
        (
            // It would hold up the deletion of the CRD for ever.
            "!variables.isDevice || object == null || \
             object.metadata.?finalizers.orValue([]).all(finalizer, finalizer in variables.hadFinalizers)",
            "'a node agent adds no finalizer to a CXIDevice'",
        ),
        (
            // It could hold up the deletion of any object, or have the garbage collector delete with another.
            owned_by_the_node.as_str(),
            "'a CXIDevice belongs to the CXINode of its own node, here ' + variables.node + ', and does not hold up its \
             deletion'",
        ),
    ];
    let validation = |(expression, message): (&str, &str)| Validation {
        expression: expression.to_owned(),
        message_expression: Some(message.replace("NODE_LABEL", NODE_LABEL)),
        reason: Some("Forbidden".to_owned()),
        message: None,
    };
    table.map(validation).to_vec()
}

fn metadata() -> ObjectMeta {
    let labels = [
        (MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), OPERATOR.to_owned()),
    ];
    ObjectMeta { name: Some(AGENT_POLICY.to_owned()), labels: Some(BTreeMap::from(labels)), ..ObjectMeta::default() }
}
