//! The account by which OLM v1 installs the package. OLM v1 has no rights of its own: it acts as an account that the
//! administrator makes for the `ClusterExtension`.

use cxi_api::{crds::crds, names::OPERATOR};
use cxi_manifests::{
    operands,
    rights::{self, NAMESPACE},
};
use serde_json::{Value, json};

use super::PACKAGE;
use crate::yaml::{Error, value};

/// The account.
const INSTALLER: &str = "cxi-operator-installer";

/// Account, rights and who has them. It may make and change what is in the package, and nothing else; and because
/// Kubernetes lets an account grant only rights that it has itself, it has the rights of the operator and its operands.
///
/// # Errors
/// When an object cannot be written.
pub fn objects() -> Result<Vec<Value>, Error> {
    let crds: Vec<_> = crds().into_iter().filter_map(|crd| crd.metadata.name).collect();
    let mut cluster = vec![
        // OLM v1 says on it who it belongs to.
        rule("olm.operatorframework.io", &["clusterextensions/finalizers"], &["update"], &[PACKAGE.to_owned()]),
    ];
    cluster.extend(installs("apiextensions.k8s.io", &["customresourcedefinitions"], &crds));
    // Those of the operator's account have names that OLM v1 makes up.
    cluster.extend(installs("rbac.authorization.k8s.io", &["clusterroles", "clusterrolebindings"], &[]));
    let of_operands = operands::rights().map(|(_, rules)| rules);
    for rules in [rights::OPERATOR_CLUSTER, rights::OPERATOR_OLM].into_iter().chain(of_operands) {
        cluster.extend(granted(rules)?);
    }
    let mut namespaced = Vec::new();
    namespaced.extend(installs(
        "",
        &["serviceaccounts"],
        &rights::accounts().into_iter().map(str::to_owned).collect::<Vec<_>>(),
    ));
    namespaced.extend(installs("rbac.authorization.k8s.io", &["roles", "rolebindings"], &[]));
    namespaced.extend(installs("apps", &["deployments"], &[OPERATOR.to_owned()]));
    namespaced.extend(installs("policy", &["poddisruptionbudgets"], &[OPERATOR.to_owned()]));
    for rules in [rights::OPERATOR_NAMESPACED, rights::OPERANDS_OPENSHIFT] {
        namespaced.extend(granted(rules)?);
    }
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": INSTALLER, "namespace": NAMESPACE } });
    let mut all = vec![account];
    for (kind, rules, namespace) in [("ClusterRole", cluster, None), ("Role", namespaced, Some(NAMESPACE))] {
        let mut metadata = json!({ "name": INSTALLER });
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.into();
        }
        let of =
            |kind: &str| json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata });
        let (mut role, mut binding) = (of(kind), of(&format!("{kind}Binding")));
        role["rules"] = rules.into();
        binding["roleRef"] = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": INSTALLER });
        binding["subjects"] = json!([{ "kind": "ServiceAccount", "name": INSTALLER, "namespace": NAMESPACE }]);
        all.extend([role, binding]);
    }
    Ok(all)
}

/// What it takes to make objects, and to keep those of these names, or all, as the package has them.
fn installs(group: &str, resources: &[&str], names: &[String]) -> [Value; 2] {
    [
        rule(group, resources, &["create", "list", "watch"], &[]),
        rule(group, resources, &["get", "update", "patch", "delete"], names),
    ]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str], names: &[String]) -> Value {
    let mut rule = json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

/// What the package grants.
fn granted(rules: &[rights::Rule]) -> Result<Vec<Value>, Error> {
    rights::policy_rules(rules).iter().map(value).collect()
}
