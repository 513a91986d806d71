//! Limits of values that are not of a type of ours: labels, tolerations, quantities, times. The API server refuses what a program
//! that reads them later could not use, with a sentence that says what helps.

use k8s_openapi::{
    api::core::v1::{ResourceRequirements, Toleration},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, ValidationRule},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A label's key has at most a domain of 253 characters, a slash and a name of 63.
const LABEL_KEY: usize = 253 + 1 + 63;

/// A label's value.
const LABEL_VALUE: usize = 63;

/// Times as every program of ours writes them: UTC, at most nanoseconds.
const TIME: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$";

/// A quantity, as Kubernetes parses it (`apimachinery/pkg/api/resource`), as other CRDs have it too.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Bounds a time, whatever it is a part of. The format `date-time` alone lets in much that is none: an offset of 99 hours, further
/// text, any list in the place of a text, which only a rule refuses; and jiff's times end a day before those of the API server.
pub(crate) fn bound_time(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref() == Some("date-time") {
        schema.pattern = Some(TIME.to_owned());
        schema.x_kubernetes_validations = Some(vec![ValidationRule {
            rule: "self < timestamp('9999-01-01T00:00:00Z')".to_owned(),
            message: Some("must be a time in UTC before the year 9999, such as 2026-01-31T12:00:00Z".to_owned()),
            ..ValidationRule::default()
        }]);
    }
}

/// Labels that a node must have: at most 64.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": LABEL_VALUE },
        "x-kubernetes-validations": [
            rule("self.all(key, !format.qualifiedName().validate(key).hasValue())",
                "keys must be label keys such as example.com/name: an optional domain and a slash, and at most 63 letters, digits, '-', '_' and '.'"),
            rule("self.all(key, !format.labelValue().validate(self[key]).hasValue())",
                "values must be label values: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"),
        ],
    })
}

/// A selector that a program understands whole.
pub(crate) fn label_selector(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = LabelSelector::json_schema(generator);
    merge(&mut schema, "/properties/matchLabels", labels(generator).to_value());
    merge(&mut schema, "/properties/matchExpressions", json!({ "maxItems": 32 }));
    merge(
        &mut schema,
        "/properties/matchExpressions/items",
        json!({ "x-kubernetes-validations": [
            rule("self.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist']",
                "operator of a matchExpression must be In, NotIn, Exists or DoesNotExist, with these capitals"),
            rule("!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
                "a matchExpression with operator In or NotIn needs values"),
            rule("!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
                "a matchExpression with operator Exists or DoesNotExist takes no values; use In or NotIn to compare values"),
        ] }),
    );
    merge(
        &mut schema,
        "/properties/matchExpressions/items/properties/key",
        json!({ "maxLength": LABEL_KEY, "x-kubernetes-validations": [
            rule("!format.qualifiedName().validate(self).hasValue()",
                "key of a matchExpression must be a label key such as example.com/name"),
        ] }),
    );
    merge(&mut schema, "/properties/matchExpressions/items/properties/operator", json!({ "maxLength": 64 }));
    merge(
        &mut schema,
        "/properties/matchExpressions/items/properties/values",
        json!({ "maxItems": 64, "items": { "type": "string", "maxLength": LABEL_VALUE, "x-kubernetes-validations": [
            rule("!format.labelValue().validate(self).hasValue()",
                "values of a matchExpression must be label values: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"),
        ] } }),
    );
    schema
}

/// Tolerations that the API server accepts in a pod (`ValidateTolerations`).
pub(crate) fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Vec::<Toleration>::json_schema(generator);
    merge(&mut schema, "", json!({ "maxItems": 64 }));
    merge(
        &mut schema,
        "/items",
        json!({ "x-kubernetes-validations": [
            rule("!has(self.operator) || self.operator in ['', 'Exists', 'Equal', 'Lt', 'Gt']",
                "operator of a toleration must be Exists or Equal"),
            rule("has(self.key) && self.key != '' ? !format.qualifiedName().validate(self.key).hasValue() : has(self.operator) && self.operator == 'Exists'",
                "key of a toleration must be the key of a taint such as example.com/name; without a key, operator must be Exists"),
            rule("!has(self.value) || self.value == '' || !has(self.operator) || self.operator != 'Exists'",
                "a toleration with operator Exists takes no value; use Equal to compare values"),
            rule("!has(self.value) || !format.labelValue().validate(self.value).hasValue()",
                "value of a toleration must be the value of a taint: at most 63 letters, digits, '-', '_' and '.'"),
            rule("!has(self.effect) || self.effect in ['', 'NoSchedule', 'PreferNoSchedule', 'NoExecute']",
                "effect of a toleration must be NoSchedule, PreferNoSchedule or NoExecute; left out, it is every effect"),
            rule("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "tolerationSeconds of a toleration needs effect NoExecute"),
        ] }),
    );
    for (field, longest) in [("key", LABEL_KEY), ("operator", 64), ("value", LABEL_VALUE), ("effect", 64)] {
        merge(&mut schema, &format!("/items/properties/{field}"), json!({ "maxLength": longest }));
    }
    schema
}

/// Compute resources whose quantities Kubernetes can parse.
pub(crate) fn resources(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = ResourceRequirements::json_schema(generator);
    for list in ["limits", "requests"] {
        let quantity = format!("/properties/{list}/additionalProperties");
        merge(&mut schema, &quantity, json!({ "pattern": QUANTITY }));
    }
    schema
}

pub(crate) fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

/// Adds to an object in a schema, where it is; a test of the whole CRDs sees what was added.
pub(crate) fn merge(schema: &mut Schema, pointer: &str, more: Value) {
    let place = if pointer.is_empty() {
        schema.as_object_mut()
    } else {
        schema.pointer_mut(pointer).and_then(Value::as_object_mut)
    };
    if let (Some(place), Value::Object(more)) = (place, more) {
        place.extend(more);
    }
}
