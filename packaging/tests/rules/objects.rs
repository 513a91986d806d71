//! What is installed, and with which rights.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Bundle, Rule, require};

pub const RULES: &[(&str, Rule)] = &[
    ("kinds", kinds),
    ("size", size),
    ("namespaces", namespaces),
    ("accounts", accounts),
    ("owned kinds", owned),
    ("schemas", schemas),
    ("install modes", install_modes),
    ("no webhooks", webhooks),
    ("rights", rights),
    ("namespaced rights stay in the namespace", permissions),
    ("requests", requests),
    ("related images", related_images),
    ("dependencies", dependencies),
];

/// What OLM installs (operator-registry `supported_resources.go`), without NetworkPolicy, which the community's pipeline refuses,
/// and without kinds of the Prometheus operator and the console, which not every cluster serves: OLM fails where it does not.
const KINDS: [&str; 11] = [
    "CustomResourceDefinition",
    "Secret",
    "ConfigMap",
    "Service",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "PodDisruptionBudget",
    "PriorityClass",
];

/// A bundle is stored in a ConfigMap at times, gzipped.
const LARGEST: usize = 1024 * 1024;

fn kinds(bundle: &Bundle) -> Vec<String> {
    let refused = bundle.objects.iter().filter(|(_, object)| !KINDS.iter().any(|kind| object["kind"] == *kind));
    refused.map(|(name, object)| format!("{name}: {} cannot be in a bundle", object["kind"])).collect()
}

fn size(bundle: &Bundle) -> Vec<String> {
    require(bundle.size < LARGEST, format!("{} bytes", bundle.size))
}

fn namespaces(bundle: &Bundle) -> Vec<String> {
    let named = bundle.objects.iter().filter(|(_, object)| !object["metadata"]["namespace"].is_null());
    let mut findings: Vec<_> =
        named.map(|(name, _)| format!("{name} names a namespace, which is OLM's to choose")).collect();
    let suggested = bundle.annotation("operatorframework.io/suggested-namespace");
    let template: Value = serde_json::from_str(bundle.annotation("operatorframework.io/suggested-namespace-template"))
        .unwrap_or_default();
    findings.extend(require(
        template["metadata"]["name"] == suggested,
        "the suggested namespace differs from its template",
    ));
    let enforced = &template["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    findings.extend(require(enforced == "privileged", "operands need a namespace that allows them"));
    // OLM leaves subjects as they are.
    for object in bundle.objects.values() {
        for subject in object["subjects"].as_array().into_iter().flatten() {
            let fits = subject["namespace"] == suggested;
            findings.extend(require(fits, format!("{} is bound outside of {suggested}", subject["name"])));
        }
    }
    findings
}

fn accounts(bundle: &Bundle) -> Vec<String> {
    let shipped: BTreeSet<_> =
        bundle.of_kind("ServiceAccount").filter_map(|a| a["metadata"]["name"].as_str()).collect();
    let permissions = bundle.list("/spec/install/spec/clusterPermissions");
    let made: BTreeSet<_> = permissions.iter().filter_map(|p| p["serviceAccountName"].as_str()).collect();
    let both = shipped.intersection(&made);
    let mut findings: Vec<_> = both.map(|name| format!("{name} is made by OLM and must not be shipped")).collect();
    for deployment in bundle.list("/spec/install/spec/deployments") {
        let name =
            deployment.pointer("/spec/template/spec/serviceAccountName").and_then(Value::as_str).unwrap_or_default();
        findings.extend(require(made.contains(name), format!("OLM makes no account {name}")));
    }
    for binding in bundle.objects.values().filter(|object| !object["roleRef"].is_null()) {
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let name = subject["name"].as_str().unwrap_or_default();
            let known = shipped.contains(name) || made.contains(name);
            findings
                .extend(require(known, format!("{} binds {name}, which nobody makes", binding["metadata"]["name"])));
        }
        let role = &binding["roleRef"];
        let there =
            bundle.of_kind(role["kind"].as_str().unwrap_or_default()).any(|r| r["metadata"]["name"] == role["name"]);
        findings.extend(require(
            there,
            format!("{} binds {}, which is not shipped", binding["metadata"]["name"], role["name"]),
        ));
    }
    findings
}

fn owned(bundle: &Bundle) -> Vec<String> {
    let said: BTreeSet<_> = bundle
        .owned()
        .iter()
        .map(|owned| {
            format!("{} {}", owned["name"].as_str().unwrap_or_default(), owned["version"].as_str().unwrap_or_default())
        })
        .collect();
    let mut shipped = BTreeSet::new();
    for crd in bundle.of_kind("CustomResourceDefinition") {
        for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
            let name = crd["metadata"]["name"].as_str().unwrap_or_default();
            shipped.insert(format!("{name} {}", version["name"].as_str().unwrap_or_default()));
        }
    }
    said.symmetric_difference(&shipped).map(|one| format!("{one} is not both owned and shipped")).collect()
}

/// Scorecard's crds-have-validation.
fn schemas(bundle: &Bundle) -> Vec<String> {
    let mut findings = Vec::new();
    for example in bundle.examples() {
        let crds = bundle.of_kind("CustomResourceDefinition");
        let Some(crd) = crds.into_iter().find(|crd| crd["spec"]["names"]["kind"] == example["kind"]) else { continue };
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            let known = &schema[part]["properties"];
            let fields = example[part].as_object().into_iter().flatten().map(|(field, _)| field);
            let unknown = fields.filter(|field| known[field.as_str()].is_null());
            findings.extend(unknown.map(|field| format!("{part}.{field} of {} has no schema", example["kind"])));
        }
    }
    findings
}

fn install_modes(bundle: &Bundle) -> Vec<String> {
    let modes = bundle.list("/spec/installModes");
    let supported = |name: &str| modes.iter().find(|mode| mode["type"] == name).map(|mode| mode["supported"] == true);
    let wanted =
        [("OwnNamespace", false), ("SingleNamespace", false), ("MultiNamespace", false), ("AllNamespaces", true)];
    let wrong = wanted.iter().filter(|(name, expected)| supported(name) != Some(*expected));
    wrong.map(|(name, expected)| format!("{name} must be {expected}")).collect()
}

fn webhooks(bundle: &Bundle) -> Vec<String> {
    require(bundle.list("/spec/webhookdefinitions").is_empty(), "a webhook would have to be up for the API server")
}

/// The rules of all roles and of the ClusterServiceVersion.
fn all_rules(bundle: &Bundle) -> Vec<&Value> {
    let permissions = bundle.list("/spec/install/spec/clusterPermissions").iter();
    permissions.chain(bundle.objects.values()).filter_map(|object| object["rules"].as_array()).flatten().collect()
}

fn rights(bundle: &Bundle) -> Vec<String> {
    let mut findings = Vec::new();
    for rule in all_rules(bundle) {
        let words =
            |key: &str| rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        let all = [words("apiGroups"), words("resources"), words("verbs")].concat();
        findings.extend(require(!all.iter().any(|word| word.contains('*')), format!("a wildcard in {rule}")));
        let reaches = ["secrets", "customresourcedefinitions", "pods/exec", "roles", "clusterroles"];
        findings.extend(require(!all.iter().any(|word| reaches.contains(word)), format!("too much in {rule}")));
        let escalates = ["bind", "escalate", "impersonate"];
        findings.extend(require(!all.iter().any(|word| escalates.contains(word)), format!("escalation in {rule}")));
    }
    findings
}

/// OLM turns `permissions` of a package for all namespaces into rights in all namespaces.
fn permissions(bundle: &Bundle) -> Vec<String> {
    let none = bundle.list("/spec/install/spec/permissions").is_empty();
    let mut findings = require(none, "permissions become rights in all namespaces: ship a Role");
    for permission in bundle.list("/spec/install/spec/clusterPermissions") {
        for rule in permission["rules"].as_array().into_iter().flatten() {
            let has = |key: &str, word: &str| rule[key].as_array().is_some_and(|words| words.iter().any(|w| w == word));
            let creates_pods = has("resources", "pods") && has("verbs", "create");
            findings.extend(require(!creates_pods, "who creates pods everywhere is master of the cluster"));
        }
    }
    findings
}

fn requests(bundle: &Bundle) -> Vec<String> {
    let asks = |container: &&Value| {
        let requests = &container["resources"]["requests"];
        !(requests["cpu"].is_string() && requests["memory"].is_string())
    };
    bundle
        .containers()
        .filter(asks)
        .map(|container| format!("{} requests no cpu and memory", container["name"]))
        .collect()
}

fn related_images(bundle: &Bundle) -> Vec<String> {
    let listed: BTreeSet<_> =
        bundle.list("/spec/relatedImages").iter().filter_map(|image| image["image"].as_str()).collect();
    let mut used = BTreeSet::new();
    for container in bundle.containers() {
        used.extend(container["image"].as_str());
        let variables = container["env"].as_array().into_iter().flatten();
        let named = variables.filter(|v| v["name"].as_str().is_some_and(|name| name.starts_with("RELATED_IMAGE_")));
        used.extend(named.filter_map(|variable| variable["value"].as_str()));
    }
    let mut findings: Vec<_> =
        listed.symmetric_difference(&used).map(|image| format!("{image} is not both listed and used")).collect();
    findings.extend(require(used.len() == 3, format!("{} images", used.len())));
    let shown = bundle.annotation("containerImage");
    findings.extend(require(listed.contains(shown), format!("containerImage {shown} is not listed")));
    findings
}

/// OLM v1 refuses a bundle with required kinds in the ClusterServiceVersion too, and they are no better for OLM.
fn dependencies(bundle: &Bundle) -> Vec<String> {
    let types = bundle.dependencies.as_array().into_iter().flatten();
    let wrong = types.filter(|one| one["type"] != "olm.gvk" || one["value"]["group"] != "kmm.sigs.x-k8s.io");
    let mut findings: Vec<_> = wrong.map(|one| format!("{one} is no kind of KMM")).collect();
    let required = bundle.csv.pointer("/spec/customresourcedefinitions/required");
    findings.extend(require(required.is_none(), "required kinds belong into dependencies.yaml"));
    findings
}
