//! What a catalog shows and sorts by.

use serde_json::Value;

use super::{Bundle, Rule, require};

pub const RULES: &[(&str, Rule)] = &[
    ("required fields", required),
    ("name and version", name),
    ("icon", icon),
    ("recommended annotations", recommended),
    ("features of OpenShift", features),
    ("architectures", architectures),
    ("channels", channels),
    ("supported OpenShift versions", openshift),
    ("labels of the image", dockerfile),
    ("update graph is the catalog's", update_graph),
    ("examples", examples),
    ("descriptors", descriptors),
];

/// The levels of operator-framework's capability model.
const CAPABILITIES: [&str; 5] = ["Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"];

/// Categories that both operator-sdk and the console know, as far as they could fit.
const CATEGORIES: [&str; 3] = ["Networking", "Monitoring", "Storage"];

/// Every feature must be said to be there or not.
const FEATURES: [&str; 10] = [
    "cnf",
    "cni",
    "csi",
    "disconnected",
    "fips-compliant",
    "proxy-aware",
    "tls-profiles",
    "token-auth-aws",
    "token-auth-azure",
    "token-auth-gcp",
];

fn required(bundle: &Bundle) -> Vec<String> {
    let display_name = bundle.text("/spec/displayName").len();
    let filled = |list: &str, keys: &[&str]| {
        let entries = bundle.list(list);
        let full = |entry: &Value| keys.iter().all(|key| entry[*key].as_str().is_some_and(|text| !text.is_empty()));
        require(!entries.is_empty() && entries.iter().all(full), format!("{list} needs entries with {keys:?}"))
    };
    let mut findings = require((3..=50).contains(&display_name), "displayName has 3 to 50 characters");
    findings.extend(require(bundle.text("/spec/description").len() >= 20, "description has at least 20 characters"));
    findings.extend(require(bundle.text("/spec/provider/name").len() >= 3, "provider.name has at least 3 characters"));
    findings.extend(filled("/spec/maintainers", &["name", "email"]));
    findings.extend(filled("/spec/links", &["name", "url"]));
    findings
}

fn name(bundle: &Bundle) -> Vec<String> {
    let (name, version) = (bundle.text("/metadata/name"), bundle.text("/spec/version"));
    let package = bundle.annotations["operators.operatorframework.io.bundle.package.v1"].as_str().unwrap_or_default();
    let numbers: Vec<_> = version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    let is_semantic = numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok());
    let mut findings = require(is_semantic, format!("version {version} is not semantic"));
    findings.extend(require(name == format!("{package}.v{version}"), format!("{name} is not <package>.v<version>")));
    findings.extend(require(name.len() <= 63, "the name has at most 63 characters"));
    findings
}

fn icon(bundle: &Bundle) -> Vec<String> {
    const TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/svg+xml"];
    match bundle.list("/spec/icon") {
        [icon] => require(
            TYPES.iter().any(|kind| icon["mediatype"] == *kind)
                && icon["base64data"].as_str().is_some_and(|data| data.len() > 100),
            "the icon needs data and a known type",
        ),
        _ => vec!["there must be exactly one icon".to_owned()],
    }
}

fn recommended(bundle: &Bundle) -> Vec<String> {
    let image = bundle.annotation("containerImage");
    let last = image.rsplit('/').next().unwrap_or_default();
    let categories: Vec<_> = bundle.annotation("categories").split(',').map(str::trim).collect();
    let created = bundle.annotation("createdAt");
    let mut findings =
        require(CAPABILITIES.contains(&bundle.annotation("capabilities")), "capabilities is none of the levels");
    findings.extend(require(categories.iter().all(|c| CATEGORIES.contains(c)), format!("categories {categories:?}")));
    findings.extend(require(last.contains([':', '@']), format!("containerImage {image} has neither tag nor digest")));
    findings.extend(require(
        created.len() >= 20 && created.as_bytes()[10] == b'T' && created.ends_with('Z'),
        format!("createdAt {created} is no timestamp"),
    ));
    findings.extend(require(bundle.annotation("repository").starts_with("https://"), "repository is no https URL"));
    findings.extend(require(!bundle.annotation("support").is_empty(), "support is missing"));
    findings.extend(require(bundle.annotation("description").len() >= 10, "the annotation description is too short"));
    findings.extend(require(!bundle.list("/spec/keywords").is_empty(), "keywords are missing"));
    findings
}

fn features(bundle: &Bundle) -> Vec<String> {
    let said = |feature: &&str| {
        let value = bundle.annotation(&format!("features.operators.openshift.io/{feature}"));
        !["true", "false"].contains(&value)
    };
    let mut findings: Vec<_> =
        FEATURES.iter().filter(|f| said(f)).map(|feature| format!("{feature} is neither true nor false")).collect();
    let by_digest = |image: &Value| image["image"].as_str().is_some_and(|image| image.contains("@sha256:"));
    let pinned = bundle.list("/spec/relatedImages").iter().all(by_digest);
    let disconnected = bundle.annotation("features.operators.openshift.io/disconnected") == "true";
    findings.extend(require(pinned == disconnected, "disconnected means that every related image has a digest"));
    findings
}

fn architectures(bundle: &Bundle) -> Vec<String> {
    let labels = &bundle.csv["metadata"]["labels"];
    require(
        labels["operatorframework.io/arch.amd64"] == "supported"
            && labels["operatorframework.io/os.linux"] == "supported",
        "architecture and operating system must be labels",
    )
}

fn channels(bundle: &Bundle) -> Vec<String> {
    let text = |key: &str| {
        bundle.annotations[format!("operators.operatorframework.io.bundle.{key}")].as_str().unwrap_or_default()
    };
    let channels: Vec<_> = text("channels.v1").split(',').collect();
    let well_named = |c: &&str| ["stable", "fast", "candidate"].iter().any(|prefix| c.starts_with(prefix));
    let mut findings = require(channels.iter().all(well_named), format!("names of channels {channels:?}"));
    findings.extend(require(channels.contains(&text("channel.default.v1")), "the default channel is none of them"));
    for (key, value) in [("mediatype.v1", "registry+v1"), ("manifests.v1", "manifests/"), ("metadata.v1", "metadata/")]
    {
        findings.extend(require(text(key) == value, format!("{key} must be {value}")));
    }
    findings
}

/// 4.20 is Kubernetes 1.33, and each version after that one more.
fn openshift(bundle: &Bundle) -> Vec<String> {
    let minimum = bundle.text("/spec/minKubeVersion");
    let minor = |text: &str| text.split('.').nth(1).and_then(|number| number.parse::<u32>().ok());
    let openshift = bundle.annotations["com.redhat.openshift.versions"].as_str().unwrap_or_default();
    let matching = minor(minimum).zip(minor(openshift)).is_some_and(|(kube, openshift)| kube == openshift + 13);
    require(
        matching,
        format!("minKubeVersion {minimum} and com.redhat.openshift.versions {openshift} do not go together"),
    )
}

fn dockerfile(bundle: &Bundle) -> Vec<String> {
    let annotations = bundle.annotations.as_object().into_iter().flatten();
    let missing = annotations
        .map(|(key, value)| format!("LABEL {key}={}", value.as_str().unwrap_or_default()))
        .filter(|line| !bundle.dockerfile.lines().any(|found| found == line));
    missing.map(|line| format!("bundle.Dockerfile lacks {line}")).collect()
}

fn update_graph(bundle: &Bundle) -> Vec<String> {
    let spec = &bundle.csv["spec"];
    let graph = ["replaces", "skips"].iter().any(|key| !spec[*key].is_null())
        || !bundle.annotation("olm.skipRange").is_empty()
        || !bundle.annotation("olm.properties").is_empty();
    require(!graph, "replaces, skips, olm.skipRange and olm.properties belong into the catalog")
}

/// Scorecard's basic-check-spec among them: an example has a spec.
fn examples(bundle: &Bundle) -> Vec<String> {
    let examples = bundle.examples();
    let mut findings = Vec::new();
    for owned in bundle.owned() {
        let count = examples.iter().filter(|example| example["kind"] == owned["kind"]).count();
        findings.extend(require(count == 1, format!("{} has {count} examples", owned["kind"])));
    }
    for example in &examples {
        let is_owned = bundle.owned().iter().any(|owned| owned["kind"] == example["kind"]);
        findings.extend(require(is_owned, format!("an example of {}, which is not owned", example["kind"])));
        findings
            .extend(require(example["spec"].is_object(), format!("the example of {} has no spec", example["kind"])));
    }
    findings
}

/// Scorecard's crds-have-resources, spec-descriptors and status-descriptors.
fn descriptors(bundle: &Bundle) -> Vec<String> {
    let mut findings = Vec::new();
    for owned in bundle.owned() {
        let kind = owned["kind"].as_str().unwrap_or_default();
        let said = |key: &str| owned[key].as_str().is_some_and(|text| !text.is_empty());
        findings.extend(require(said("description") && said("displayName"), format!("{kind} is not described")));
        findings.extend(require(
            owned["resources"].as_array().is_some_and(|r| !r.is_empty()),
            format!("{kind} has no resources"),
        ));
        for example in bundle.examples().iter().filter(|example| example["kind"] == kind) {
            for (part, key) in [("spec", "specDescriptors"), ("status", "statusDescriptors")] {
                let described = |field: &String| {
                    let entries = owned[key].as_array().into_iter().flatten();
                    entries.into_iter().any(|entry| entry["path"] == **field)
                };
                let fields = example[part].as_object().into_iter().flatten().map(|(field, _)| field);
                let missing = fields.filter(|field| !described(field));
                findings.extend(missing.map(|field| format!("{kind}: {part}.{field} has no descriptor")));
            }
        }
    }
    findings
}
