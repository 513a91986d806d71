//! For each rule what it must find.

use serde_json::{Value, json};

use super::Bundle;

type Spoil = Box<dyn Fn(&mut Bundle)>;

/// Name of a rule and how a bundle breaks it.
pub fn all() -> Vec<(&'static str, Spoil)> {
    vec![
        ("required fields", csv("/spec/displayName", json!("xy"))),
        ("required fields", csv("/spec/description", json!("short"))),
        ("required fields", csv("/spec/provider/name", json!("x"))),
        ("required fields", csv("/spec/maintainers", json!([{ "name": "x" }]))),
        ("required fields", csv("/spec/links", json!([]))),
        ("name and version", csv("/metadata/name", json!("other.v0.1.0"))),
        ("name and version", csv("/spec/version", json!("0.1"))),
        ("icon", csv("/spec/icon", json!([]))),
        ("icon", csv("/spec/icon/0/mediatype", json!("image/webp"))),
        ("recommended annotations", annotation("capabilities", "Best")),
        ("recommended annotations", annotation("categories", "Drivers and plugins")),
        ("recommended annotations", annotation("containerImage", "ghcr.io:443/x")),
        ("recommended annotations", annotation("createdAt", "2026-11-21")),
        ("recommended annotations", annotation("repository", "git@example.com")),
        ("recommended annotations", annotation("support", "")),
        ("features of OpenShift", annotation("features.operators.openshift.io/csi", "no")),
        (
            "features of OpenShift",
            Box::new(|bundle| {
                let key = "features.operators.openshift.io/disconnected";
                let other = if bundle.annotation(key) == "true" { "false" } else { "true" };
                bundle.csv["metadata"]["annotations"][key] = other.into();
            }),
        ),
        ("architectures", csv("/metadata/labels", json!({}))),
        ("channels", bundle_annotation("operators.operatorframework.io.bundle.channels.v1", "alpha")),
        ("channels", bundle_annotation("operators.operatorframework.io.bundle.channel.default.v1", "fast")),
        ("channels", bundle_annotation("operators.operatorframework.io.bundle.mediatype.v1", "plain")),
        ("supported OpenShift versions", bundle_annotation("com.redhat.openshift.versions", "")),
        ("supported OpenShift versions", csv("/spec/minKubeVersion", json!("1.35.0"))),
        (
            "labels of the image",
            Box::new(|bundle| {
                bundle.dockerfile = bundle.dockerfile.replace("LABEL com.redhat.openshift.versions", "LABEL x");
            }),
        ),
        ("update graph is the catalog's", csv("/spec/replaces", json!("cxi-operator.v0.0.1"))),
        ("update graph is the catalog's", annotation("olm.skipRange", ">=0.0.1 <0.1.0")),
        ("examples", annotation("alm-examples", "[]")),
        ("examples", annotation("alm-examples", r#"[{"kind": "CXIDriver"}]"#)),
        ("examples", example(|example| example["kind"] = "Stranger".into())),
        ("descriptors", csv("/spec/customresourcedefinitions/owned/0/resources", json!([]))),
        ("descriptors", csv("/spec/customresourcedefinitions/owned/0/description", json!(""))),
        ("descriptors", example(|example| example["spec"]["novel"] = json!(1))),
        ("descriptors", example(|example| example["status"] = json!({ "novel": 1 }))),
        ("kinds", object(json!({ "kind": "NetworkPolicy", "metadata": { "name": "x" } }))),
        ("kinds", object(json!({ "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "x" } }))),
        ("size", Box::new(|bundle| bundle.size = 2 << 20)),
        ("namespaces", object(json!({ "kind": "Role", "metadata": { "name": "x", "namespace": "y" } }))),
        ("namespaces", annotation("operatorframework.io/suggested-namespace", "elsewhere")),
        ("namespaces", annotation("operatorframework.io/suggested-namespace-template", "{}")),
        ("accounts", object(json!({ "kind": "ServiceAccount", "metadata": { "name": "cxi-operator" } }))),
        ("accounts", csv("/spec/install/spec/deployments/0/spec/template/spec/serviceAccountName", json!("nobody"))),
        (
            "accounts",
            Box::new(|bundle| {
                bundle.objects.remove("cxi-agent.clusterrole.yaml");
            }),
        ),
        (
            "accounts",
            Box::new(|bundle| {
                bundle.objects.remove("cxi-agent.serviceaccount.yaml");
            }),
        ),
        ("owned kinds", csv("/spec/customresourcedefinitions/owned/0/version", json!("v2"))),
        (
            "owned kinds",
            Box::new(|bundle| {
                bundle.objects.remove("cxinodes.cxi.hpe.com.yaml");
            }),
        ),
        ("schemas", example(|example| example["spec"]["novel"] = json!(1))),
        ("schemas", example(|example| example["status"] = json!({ "novel": 1 }))),
        ("install modes", csv("/spec/installModes/0/supported", json!(true))),
        ("install modes", csv("/spec/installModes", json!([{ "type": "AllNamespaces", "supported": true }]))),
        ("no webhooks", csv("/spec/webhookdefinitions", json!([{ "type": "ValidatingAdmissionWebhook" }]))),
        ("rights", rule(json!({ "apiGroups": ["*"], "resources": ["nodes"], "verbs": ["get"] }))),
        ("rights", rule(json!({ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }))),
        (
            "rights",
            rule(
                json!({ "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["patch"] }),
            ),
        ),
        ("rights", rule(json!({ "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["x"], "verbs": ["bind"] }))),
        ("namespaced rights stay in the namespace", csv("/spec/install/spec/permissions", json!([{}]))),
        (
            "namespaced rights stay in the namespace",
            rule(json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["create"] })),
        ),
        ("requests", csv("/spec/install/spec/deployments/0/spec/template/spec/containers/0/resources", json!({}))),
        ("related images", csv("/spec/relatedImages", json!([]))),
        ("related images", annotation("containerImage", "ghcr.io/other:1")),
        ("dependencies", Box::new(|bundle| bundle.dependencies = json!([{ "type": "olm.package", "value": {} }]))),
        ("dependencies", csv("/spec/customresourcedefinitions/required", json!([{}]))),
    ]
}

/// Sets a field of the ClusterServiceVersion.
fn csv(pointer: &'static str, value: Value) -> Spoil {
    Box::new(move |bundle| {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let parent = bundle.csv.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has no parent"));
        match parent {
            Value::Array(list) => list[key.parse::<usize>().expect("an index")] = value.clone(),
            other => other[key] = value.clone(),
        }
    })
}

fn annotation(key: &'static str, value: &'static str) -> Spoil {
    Box::new(move |bundle| bundle.csv["metadata"]["annotations"][key] = value.into())
}

fn bundle_annotation(key: &'static str, value: &'static str) -> Spoil {
    Box::new(move |bundle| bundle.annotations[key] = value.into())
}

/// Changes the first example.
fn example(change: impl Fn(&mut Value) + 'static) -> Spoil {
    Box::new(move |bundle| {
        let mut examples = bundle.examples();
        change(&mut examples[0]);
        bundle.csv["metadata"]["annotations"]["alm-examples"] = Value::Array(examples).to_string().into();
    })
}

fn object(object: Value) -> Spoil {
    Box::new(move |bundle| {
        bundle.objects.insert("spoilt.yaml".to_owned(), object.clone());
    })
}

/// One more rule among those for the whole cluster.
fn rule(rule: Value) -> Spoil {
    Box::new(move |bundle| {
        let rules = bundle.csv.pointer_mut("/spec/install/spec/clusterPermissions/0/rules");
        rules.and_then(Value::as_array_mut).expect("rules").push(rule.clone());
    })
}
