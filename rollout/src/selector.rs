//! Label selectors, as the API server evaluates them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Whether `labels` satisfy `selector`. An empty selector matches everything; a requirement with an operator that does not
/// exist matches nothing.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|requirement| satisfies(requirement, labels))
}

fn satisfies(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|listed| listed == value));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("In", &["a", "b"], Some("a"), true)]
    #[case("In", &["a"], Some("c"), false)]
    #[case("In", &["a"], None, false)]
    #[case("NotIn", &["a"], Some("a"), false)]
    #[case("NotIn", &["a"], None, true)]
    #[case("Exists", &[], Some("x"), true)]
    #[case("Exists", &[], None, false)]
    #[case("DoesNotExist", &[], None, true)]
    #[case("DoesNotExist", &[], Some("x"), false)]
    #[case("Like", &["x"], Some("x"), false)]
    fn expressions(
        #[case] operator: &str,
        #[case] values: &[&str],
        #[case] value: Option<&str>,
        #[case] expected: bool,
    ) {
        let selector = LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "key".into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
            match_labels: None,
        };
        let labels = value.map(|value| ("key".to_owned(), value.to_owned())).into_iter().collect();
        assert_eq!(matches(&selector, &labels), expected);
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(matches(&LabelSelector::default(), &BTreeMap::new()));
    }
}
