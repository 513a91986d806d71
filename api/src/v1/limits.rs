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

/// How the labels begin that the operator sets on nodes.
const OPERATOR_LABELS: &str = "cxi.hpe.com/";

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

/// Labels of the nodes that a CXIDriver selects: at least one, and none that the operator sets itself.
pub(crate) fn node_selector(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = labels(generator);
    let more = [
        rule("size(self) > 0", "nodeSelector needs at least one label; kubernetes.io/os: linux selects all nodes"),
        rule(
            &format!("self.all(key, !key.startsWith('{OPERATOR_LABELS}'))"),
            &format!(
                "nodeSelector must not name labels that begin with {OPERATOR_LABELS}: the operator sets them on nodes that are selected \
                 already; name a label that the nodes have from elsewhere"
            ),
        ),
    ];
    if let Some(rules) = schema.pointer_mut("/x-kubernetes-validations").and_then(Value::as_array_mut) {
        rules.extend(more);
    }
    schema
}

/// An image, with or without a tag and a digest.
pub(crate) fn image(generator: &mut SchemaGenerator) -> Schema {
    let cel = format!("self == '' || self.matches('^{}({})?({})?$')", repository(""), tag(""), DIGEST);
    optional_text(
        generator,
        LONGEST_IMAGE,
        &cel,
        &format!("must be an image such as registry.example.com/hpe/image:1.0, {GRAMMAR}"),
    )
}

/// An image that has to be named.
pub(crate) fn required_image(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = image(generator);
    merge(&mut schema, "", json!({ "type": "string", "minLength": 1 }));
    schema
}

/// A driver release.
pub(crate) fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 63,
        "x-kubernetes-validations": [rule(
            r"self.matches('^v?[0-9]+(\\.[0-9]+)*([-+_][0-9A-Za-z.+_-]*[0-9A-Za-z])?$')",
            "version must be a driver release such as 13.0.0, v1.8.3, 2.0.1-shs12 or 13.1.0_20251209; it becomes part of image tags, which have no ~",
        )],
    })
}

/// The repository of driver images. That it has no tag is another rule.
pub(crate) fn image_repository(generator: &mut SchemaGenerator) -> Schema {
    let cel = format!("self == '' || self.matches('^{}(:[^/]*|@.*)?$')", repository(""));
    let mut schema = optional_text(
        generator,
        LONGEST_IMAGE,
        &cel,
        &format!("source.image must be a repository such as registry.example.com/hpe/cxi-driver, {GRAMMAR}"),
    );
    let untagged = rule(
        "self == '' || !self.matches('.*(:[^/]*|@.*)$') || self.contains('://')",
        "source.image must be a repository without tag or digest; the tag is made from version and kernel",
    );
    if let Some(rules) = schema.pointer_mut("/x-kubernetes-validations").and_then(Value::as_array_mut) {
        rules.push(untagged);
    }
    schema
}

/// The rules of a kernel mapping's image, which may have variables of KMM anywhere but in the registry's name.
pub(crate) fn mapped_image() -> Value {
    let cel = format!("self.matches('^{}({})?(@.*)?$')", repository(VARIABLE), tag(VARIABLE));
    json!([
        rule(
            &cel,
            &format!(
                "image of a kernel mapping must be an image such as registry.example.com/hpe/cxi-driver:1.0, {GRAMMAR}"
            )
        ),
        rule("self.matches('.*(:[^/]+|@.+)$')", "image of a kernel mapping must have a tag or a digest"),
    ])
}

/// The name of a Secret in the operator's namespace.
pub(crate) fn secret(generator: &mut SchemaGenerator) -> Schema {
    optional_text(
        generator,
        253,
        "self == '' || !format.dns1123Subdomain().validate(self).hasValue()",
        "must be the name of a Secret: lower-case letters, digits, '-' and '.', with a letter or digit at both ends",
    )
}

fn optional_text(generator: &mut SchemaGenerator, longest: usize, cel: &str, message: &str) -> Schema {
    let mut schema = Option::<String>::json_schema(generator);
    merge(&mut schema, "", json!({ "maxLength": longest, "x-kubernetes-validations": [rule(cel, message)] }));
    schema
}

/// The longest image: a name of 255 characters, a tag of 128, a digest.
const LONGEST_IMAGE: usize = 512;

/// What the grammar of an image asks for and people get wrong.
const GRAMMAR: &str = "without https:// and with the repository in lower case";

/// A variable of KMM in an image.
const VARIABLE: &str = "[$][{][^{}]+[}]";

/// The digest of an image, by the grammar of references (`github.com/distribution/reference`).
const DIGEST: &str = "@[A-Za-z][A-Za-z0-9]*([-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";

/// A regular expression for a repository by the same grammar, in whose path `variable` may stand too.
fn repository(variable: &str) -> String {
    let domain = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?";
    let word = if variable.is_empty() { "[a-z0-9]+".to_owned() } else { format!("([a-z0-9]|{variable})+") };
    let part = format!("{word}(([.]|_|__|-+){word})*");
    format!("(({domain}([.]{domain})*|\\\\[[a-fA-F0-9:]+\\\\])(:[0-9]+)?/)?{part}(/{part})*")
}

/// The same for a tag.
fn tag(variable: &str) -> String {
    if variable.is_empty() {
        ":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}".to_owned()
    } else {
        format!(":([A-Za-z0-9_]|{variable})([A-Za-z0-9_.-]|{variable})*")
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::as_installed::{holds, schema};

    /// The rules at a place of the spec of a `CXIDriver`, as they are installed, each with its message.
    fn rules(pointer: &str) -> Vec<(String, String)> {
        let rules = &schema(pointer)["x-kubernetes-validations"];
        let text = |rule: &Value, name: &str| rule[name].as_str().unwrap().to_owned();
        rules.as_array().unwrap().iter().map(|rule| (text(rule, "rule"), text(rule, "message"))).collect()
    }

    /// What the API server says of a value; functions that only it has are left out.
    fn refusals(pointer: &str, value: &Value) -> Vec<String> {
        let broken = |(rule, _): &(String, String)| {
            let rule = rule.replace("(oldSelf.hasValue() &&", "(false &&").replace("oldSelf.value()", "self");
            !holds(&rule, value)
        };
        rules(pointer)
            .into_iter()
            .filter(|(rule, _)| !rule.contains("format."))
            .filter(broken)
            .map(|(_, message)| message)
            .collect()
    }

    fn refused(pointer: &str, value: impl Into<Value>, says: &str) {
        let value = value.into();
        let said = refusals(pointer, &value);
        assert!(matches!(&said[..], [one] if one.contains(says)), "{pointer} {value}: {said:#?}");
    }

    fn accepted(pointer: &str, value: impl Into<Value>) {
        let value = value.into();
        assert_eq!(refusals(pointer, &value), Vec::<String>::new(), "{pointer} {value}");
    }

    #[test]
    fn a_selector_has_a_label_that_is_not_the_operators() {
        let at = "/properties/nodeSelector";
        accepted(at, json!({"kubernetes.io/os": "linux"}));
        accepted(at, json!({"beta.cxi.hpe.com/nic": "true"}));
        refused(at, json!({}), "needs at least one label; kubernetes.io/os: linux selects all nodes");
        refused(at, json!({"a": "b", "cxi.hpe.com/driver": "x"}), "begin with cxi.hpe.com/");
        // A retry handler may be wherever the driver is.
        accepted("/properties/retryHandler/properties/daemonset/properties/nodeSelector", json!({}));
    }

    #[test]
    fn images_are_those_that_a_registry_can_have() {
        let image = |part: &str| format!("/properties/{part}/properties/image");
        let builder = "/properties/source/properties/builderImage".to_owned();
        let mut places = ["retryHandler", "devicePlugin", "metricsExporter", "agent"].map(image).to_vec();
        places.push(builder);
        for place in &places {
            for good in [
                "",
                "a",
                "r/x:1",
                "registry.example:5000/hpe/cxi_rh:v1.0_a",
                "[fd00::1]:5000/x",
                "Registry.example/x__y--z.a:latest",
            ] {
                accepted(place, good);
            }
            accepted(place, format!("registry.example/x:1@sha256:{}", "0".repeat(64)));
            for bad in [
                "https://registry.example/x",
                "registry.example/HPE/x",
                "r/x:",
                "r/x y",
                "r//x",
                "r/x/",
                "r/x@sha256:00",
                "r/x:a:b",
            ] {
                refused(place, bad, "without https:// and with the repository in lower case");
            }
        }
    }

    #[test]
    fn the_repository_of_driver_images_says_its_own_rule() {
        let at = "/properties/source/properties/image";
        for good in ["", "r/x", "registry.example:5000/hpe/cxi-driver"] {
            accepted(at, good);
        }
        for bad in ["https://registry.example/x", "https://registry.example:5000/x", "registry.example/HPE/x"] {
            refused(at, bad, "without https:// and with the repository in lower case");
        }
        refused(at, "r/x:13.0.0", "without tag or digest");
        refused(at, "r/x@sha256:00", "without tag or digest");
        let mapped = "/properties/source/properties/kernelMappings/items/properties/image";
        for good in ["r/x:1", "r/x:13-${KERNEL_FULL_VERSION}", "r/${KERNEL_VERSION}/x:1", "r/x@sha256:00"] {
            accepted(mapped, good);
        }
        refused(mapped, "https://r/x:1", "without https://");
        refused(mapped, "r/X:1", "in lower case");
        refused(mapped, "r/x", "must have a tag or a digest");
    }

    #[test]
    fn a_driver_that_is_built_has_sources() {
        let spec = |source: Value| json!({ "source": source });
        let repositories = |names: &[&str]| -> Value {
            names.iter().map(|name| ((*name).to_owned(), json!({"url": "u", "ref": "r"}))).collect()
        };
        let all = ["cxiDriver", "sbl", "slDriver", "cassiniHeaders"];
        for good in [
            json!({"type": "preinstalled"}),
            json!({"type": "prebuilt", "image": "r/x"}),
            json!({"type": "dkms", "kernelMappings": [{"literal": "6.1", "image": "r/x:1"}]}),
            json!({"type": "dkms", "repository": "https://example.com/driver.zip"}),
            json!({"type": "dkms", "dkms": {"tag": "v1"}}),
            json!({"type": "dkms", "dkms": {"layout": {"name": "stack"}}}),
            json!({"type": "dkms", "dkms": {"repositories": repositories(&all)}}),
        ] {
            let source: crate::source::Source = serde_json::from_value(good.clone()).unwrap();
            assert!(
                source.kind != crate::source::SourceType::Dkms
                    || source.has_sources()
                    || !source.kernel_mappings.is_empty()
            );
            accepted("", spec(good));
        }
        for bad in [
            json!({"type": "dkms"}),
            json!({"type": "dkms", "image": "r/x", "dkms": {"platform": "cassini", "tag": ""}}),
            json!({"type": "dkms", "repository": "registry.example/driver"}),
            json!({"type": "dkms", "dkms": {"repositories": repositories(&all[1..])}}),
        ] {
            let source: crate::source::Source = serde_json::from_value(bad.clone()).unwrap();
            assert!(!source.has_sources());
            refused("", spec(bad), "nothing says what to build: set source.repository");
        }
    }

    #[test]
    fn names_of_secrets_are_names() {
        let source = "/properties/source/properties";
        for at in ["/imagePullSecret", "/sign/properties/keySecret", "/sign/properties/certSecret"] {
            let rules = rules(&format!("{source}{at}"));
            assert!(
                rules.iter().any(|(rule, said)| rule.contains("dns1123Subdomain") && said.contains("name of a Secret")),
                "{at}"
            );
        }
    }
}
