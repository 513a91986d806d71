//! The CustomResourceDefinitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{CXIDevice, CXIDriver, CXINode, CXIPreflight, limits::bound_time};

/// Every CustomResourceDefinition of this operator. Descriptions are single lines: `kubectl explain` wraps them itself.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![CXIDriver::crd(), CXIPreflight::crd(), CXINode::crd(), CXIDevice::crd()];
    for version in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            everywhere(schema, &|place| {
                unwrap_description(place);
                bound_time(place);
                forbid_null(place);
            });
            let spec = schema.properties.as_mut().and_then(|properties| properties.get_mut("spec"));
            spec.into_iter().for_each(say_defaults);
        }
    }
    crds
}

/// Changes a schema and every schema in it.
fn everywhere(schema: &mut JSONSchemaProps, change: &impl Fn(&mut JSONSchemaProps)) {
    change(schema);
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        everywhere(property, change);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => everywhere(items, change),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(|items| everywhere(items, change)),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        everywhere(values, change);
    }
}

/// Where there is a default, the API server puts it in the place of `null`, unless the schema says that `null` is a value. kube says
/// so of every number-or-text, and Rust reads no `null` there.
fn forbid_null(schema: &mut JSONSchemaProps) {
    if schema.default.is_some() {
        schema.nullable = None;
    }
}

/// Fields that are Kubernetes' own, with the help that Kubernetes gives for what is in them.
const FOREIGN: [&str; 3] = ["resources", "tolerations", "protectedPods"];

/// Ends the help of each optional field with its default, because `kubectl explain` shows no defaults. Where the default is what
/// the operator does, and no value, the help says so itself.
fn say_defaults(schema: &mut JSONSchemaProps) {
    let required = schema.required.clone().unwrap_or_default();
    for (name, property) in schema.properties.iter_mut().flatten() {
        let help = property.description.get_or_insert_default();
        if !required.contains(name) && !help.contains("Default: ") {
            let default = match &property.default {
                Some(_) if property.properties.is_some() => "those of its fields".to_owned(),
                Some(JSON(Value::String(text))) => text.clone(),
                Some(JSON(value)) => value.to_string(),
                None if property.type_.as_deref() == Some("boolean") => "false".to_owned(),
                None => "none".to_owned(),
            };
            let space = if help.is_empty() { "" } else { " " };
            *help = format!("{help}{space}Default: {default}.");
        }
        if FOREIGN.contains(&name.as_str()) {
            continue;
        }
        say_defaults(property);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut property.items {
            say_defaults(items);
        }
    }
}

fn unwrap_description(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<String> = description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_whole_sentences() {
        for crd in crds() {
            let text = serde_json::to_value(&crd).unwrap();
            let mut stack = vec![&text];
            while let Some(value) = stack.pop() {
                if let Some(description) = value.get("description").and_then(serde_json::Value::as_str) {
                    assert!(!description.replace("\n\n", "").contains('\n'), "{description}");
                }
                stack.extend(value.as_object().into_iter().flat_map(|object| object.values()));
                stack.extend(value.as_array().into_iter().flatten());
            }
        }
    }

    #[test]
    fn the_help_of_an_optional_field_ends_with_its_default() {
        let driver = &crds()[0].spec.versions[0].schema;
        let schema = serde_json::to_value(driver.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap();
        let help = |path: &str| {
            let of = |schema: &Value, field: &str| match field.strip_suffix("[]") {
                Some(list) => schema["properties"][list]["items"].clone(),
                None => schema["properties"][field].clone(),
            };
            path.split('.').fold(schema.clone(), |schema, field| of(&schema, field))["description"].to_string()
        };
        for (field, default) in [
            ("spec.updateStrategy.drain.waitTimeout", "24h"),
            ("spec.updateStrategy.maxFailed", "1"),
            ("spec.updateStrategy", "those of its fields"),
            ("spec.paused", "false"),
            ("spec.devicePlugin.extraMounts[].writable", "false"),
            ("spec.devicePlugin.extraDevices", r#"[\"kdreg2\",\"xpmem\"]"#),
            ("spec.devicePlugin.kubeletRoot", "/var/lib/kubelet"),
            ("spec.devicePlugin.image", "the operator's own"),
            ("spec.source.image", "none"),
        ] {
            let help = help(field);
            assert!(help.ends_with(&format!(" Default: {default}.\"")), "{field}: {help}");
        }
        assert!(!help("spec.version").contains("Default"));
    }
}
