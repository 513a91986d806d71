//! The CustomResourceDefinitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{CXIDevice, CXIDriver, CXINode, limits::bound_time};

/// Every CustomResourceDefinition of this operator. Descriptions are single lines: `kubectl explain` wraps them itself.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![CXIDriver::crd(), CXINode::crd(), CXIDevice::crd()];
    for version in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            everywhere(schema, &|place| {
                unwrap_description(place);
                bound_time(place);
                forbid_null(place);
            });
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
}
