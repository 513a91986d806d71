//! The Helm chart. Objects come from the same source as `install.yaml`; where a value decides, a template's expression takes the
//! place of theirs ([`template`]). What people write of the chart is in `packaging/helm`.

mod template;
mod workload;

use std::collections::BTreeMap;

use cxi_images::{Image, Lock};
use serde_json::Value;

use crate::{
    install::{Manifest, Part},
    yaml::{self, Error},
};
use template::Template;

/// Files of the chart that are written by hand, below its directory; `@NAME@` stands for what the generator knows.
const AUTHORED: [(&str, &str); 9] = [
    ("Chart.yaml", include_str!("../helm/Chart.yaml")),
    ("README.md", include_str!("../helm/README.md")),
    (".helmignore", include_str!("../helm/.helmignore")),
    ("values.yaml", include_str!("../helm/values.yaml")),
    ("values.schema.json", include_str!("../helm/values.schema.json")),
    ("templates/NOTES.txt", include_str!("../helm/templates/NOTES.txt")),
    ("templates/_parts.tpl", include_str!("../helm/templates/_parts.tpl")),
    ("templates/crds.yaml", include_str!("../helm/templates/crds.yaml")),
    ("templates/monitoring.yaml", include_str!("../helm/templates/monitoring.yaml")),
];

/// Files of the chart that are those of `deploy/monitoring`.
const MONITORING: [(&str, &str); 4] = [
    ("files/alerts.yaml", include_str!("../../deploy/monitoring/alerts.yaml")),
    ("files/dashboard.json", include_str!("../../deploy/monitoring/dashboard.json")),
    ("files/podmonitor.yaml", include_str!("../../deploy/monitoring/podmonitor.yaml")),
    ("files/servicemonitor.yaml", include_str!("../../deploy/monitoring/servicemonitor.yaml")),
];

/// Path below the chart's directory and text of every file.
///
/// # Errors
/// When an object cannot be written.
pub fn chart(version: &str, images: &Lock, manifests: &[Manifest]) -> Result<BTreeMap<String, String>, Error> {
    let mut files: BTreeMap<_, _> =
        MONITORING.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    for (name, text) in AUTHORED {
        files.insert(name.to_owned(), filled(text, version, images));
    }
    for manifest in manifests {
        let text = yaml::documents(&manifest.objects)?;
        match (manifest.part, condition(manifest)) {
            (Part::Crds, _) => files.insert(format!("files/crds/{}", manifest.name), text),
            (part, condition) => {
                let name = format!("templates/{}-{}", part.directory(), manifest.name);
                files.insert(name, templated(&manifest.objects, condition)?)
            }
        };
    }
    Ok(files)
}

/// What decides whether the objects of a file are installed.
fn condition(manifest: &Manifest) -> Option<&'static str> {
    match (manifest.part, manifest.name.as_str()) {
        (Part::Rbac, "namespace.yaml") => Some(".Values.namespace.create"),
        (Part::Rbac, "openshift.yaml") => Some(r#"include "cxi-operator.openshift" ."#),
        (Part::Policy, "agent.yaml") => Some(".Values.agentPolicy.enabled"),
        (Part::Policy, "retry-handler.yaml") => Some(".Values.sidecarPolicy.enabled"),
        (Part::Operator, "networkpolicy.yaml") => Some(".Values.networkPolicy.enabled"),
        (Part::Operator, "poddisruptionbudget.yaml") => Some(".Values.podDisruptionBudget.enabled"),
        _ => None,
    }
}

fn templated(objects: &[Value], condition: Option<&str>) -> Result<String, Error> {
    let mut texts = Vec::new();
    for object in objects {
        let mut template = Template::default();
        let mut object = object.clone();
        in_namespace(&mut object, &mut template);
        labelled(&mut object, &mut template);
        workload::configured(&mut object, &mut template);
        texts.push(template.render(&yaml::document(&object)?));
    }
    let text = texts.join("---\n");
    let text = match condition {
        Some(condition) => format!("{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n"),
        None => text,
    };
    Ok(yaml::generated(&text))
}

/// The release's namespace takes the place of ours wherever an object names it.
fn in_namespace(object: &mut Value, template: &mut Template) {
    const RELEASE: &str = "{{ .Release.Namespace }}";
    let named = if object["kind"] == "Namespace" { "/metadata/name" } else { "/metadata/namespace" };
    if let Some(name) = object.pointer_mut(named) {
        *name = template.scalar(RELEASE);
    }
    for subject in list(object, "/subjects") {
        subject["namespace"] = template.scalar(RELEASE);
    }
}

/// The elements of a list; none where there is no list.
fn list<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Every object says which release and chart it is of.
fn labelled(object: &mut Value, template: &mut Template) {
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        let key = template.lines(|indent| format!("{{{{- include \"cxi-operator.labels\" . | nindent {indent} }}}}"));
        labels.insert(key, Value::Null);
    }
}

/// An authored text with what the generator knows.
fn filled(text: &str, version: &str, images: &Lock) -> String {
    let mut text = text.replace("@VERSION@", version);
    for (name, image) in
        [("OPERATOR", Image::Operator), ("DEVICE_PLUGIN", Image::DevicePlugin), ("AGENT", Image::Agent)]
    {
        let entry = images.entry(image);
        let (registry, rest) = entry.repository.split_once('/').unwrap_or(("", &entry.repository));
        let digest = entry.digest.as_ref().map(ToString::to_string).unwrap_or_default();
        text = text
            .replace(&format!("@{name}_REGISTRY@"), registry)
            .replace(&format!("@{name}_REPOSITORY@"), rest)
            .replace(&format!("@{name}_DIGEST@"), &digest);
    }
    text
}
