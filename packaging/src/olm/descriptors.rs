//! What a console shows of the fields of a kind, from the schema.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use serde_json::{Value, json};

/// Descriptors of the spec's fields: those at the top and those right below them.
pub fn spec(crd: &CustomResourceDefinition) -> Vec<Value> {
    let Some(schema) = part(crd, "spec") else { return Vec::new() };
    let mut all = Vec::new();
    for (name, field) in fields(schema) {
        all.push(descriptor(name, name, field));
        for (below, nested) in fields(field) {
            all.push(descriptor(&format!("{name}.{below}"), below, nested));
        }
    }
    all
}

/// Descriptors of the status's fields at the top.
pub fn status(crd: &CustomResourceDefinition) -> Vec<Value> {
    let Some(schema) = part(crd, "status") else { return Vec::new() };
    fields(schema).map(|(name, field)| descriptor(name, name, field)).collect()
}

fn part<'a>(crd: &'a CustomResourceDefinition, name: &str) -> Option<&'a JSONSchemaProps> {
    let schema = crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    schema.properties.as_ref()?.get(name)
}

fn fields(schema: &JSONSchemaProps) -> impl Iterator<Item = (&String, &JSONSchemaProps)> {
    schema.properties.iter().flatten()
}

fn descriptor(path: &str, name: &str, field: &JSONSchemaProps) -> Value {
    let mut descriptor = json!({ "path": path, "displayName": display_name(name) });
    if let Some(text) = &field.description {
        descriptor["description"] = json!(text.split("\n\n").next().unwrap_or(text));
    }
    let hints = hints(name, field);
    if !hints.is_empty() {
        descriptor["x-descriptors"] = json!(hints);
    }
    descriptor
}

/// What a console edits or shows a field with.
fn hints(name: &str, field: &JSONSchemaProps) -> Vec<String> {
    const UI: &str = "urn:alm:descriptor:com.tectonic.ui:";
    if name == "conditions" {
        return vec!["urn:alm:descriptor:io.kubernetes.conditions".to_owned()];
    }
    let choices: Vec<_> = field.enum_.iter().flatten().filter_map(|choice| choice.0.as_str()).collect();
    if !choices.is_empty() {
        return choices.iter().map(|choice| format!("{UI}select:{choice}")).collect();
    }
    match field.type_.as_deref() {
        Some("boolean") => vec![format!("{UI}booleanSwitch")],
        Some("integer") => vec![format!("{UI}number")],
        _ => Vec::new(),
    }
}

/// `updateStrategy` → `Update Strategy`.
fn display_name(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.chars().enumerate() {
        if index == 0 {
            text.extend(letter.to_uppercase());
            continue;
        }
        if letter.is_uppercase() {
            text.push(' ');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use cxi_api::crds::crds;

    use super::*;

    #[test]
    fn names_read_well() {
        assert_eq!(display_name("updateStrategy"), "Update Strategy");
        assert_eq!(display_name("version"), "Version");
    }

    #[test]
    fn every_field_of_a_driver_is_described() {
        let crd = &crds()[0];
        let descriptors = spec(crd);
        let paths: Vec<_> = descriptors.iter().map(|d| d["path"].as_str().unwrap()).collect();
        for path in ["version", "source", "source.image", "updateStrategy.maxUnavailable"] {
            assert!(paths.contains(&path), "{path} is not among {paths:?}");
        }
        assert!(descriptors.iter().all(|d| d["description"].is_string()), "{descriptors:#?}");
        let conditions = status(crd).into_iter().find(|d| d["path"] == "conditions").unwrap();
        assert_eq!(conditions["x-descriptors"], json!(["urn:alm:descriptor:io.kubernetes.conditions"]));
    }
}
