//! The CustomResourceDefinitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use crate::{CXIDevice, CXIDriver, CXINode};

/// Every CustomResourceDefinition of this operator. Descriptions are single lines: `kubectl explain` wraps them itself.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![CXIDriver::crd(), CXINode::crd(), CXIDevice::crd()];
    for version in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            unwrap_descriptions(schema);
        }
    }
    crds
}

fn unwrap_descriptions(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<String> = description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        unwrap_descriptions(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => unwrap_descriptions(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(unwrap_descriptions),
        None => {}
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
