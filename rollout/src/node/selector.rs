//! Label selectors, as the API server evaluates them (`LabelSelectorAsSelector` and `labels.NewRequirement` of apimachinery). The schema
//! of a custom resource takes selectors that the API server would refuse in its own objects. What such a selector means is not known, and
//! each use says what follows from that: see [`understand`] and [`coverage`].

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// A longer selector of a PodDisruptionBudget is not looked through. Tenants write them, and each pod is compared with them.
const LONGEST: usize = 256;

/// A selector that means something.
#[derive(Clone, Copy, Debug)]
pub struct Understood<'a>(&'a LabelSelector);

/// What a PodDisruptionBudget covers in its namespace.
#[derive(Clone, Debug)]
pub enum Coverage<'a> {
    /// No pod: it has no selector.
    Nothing,
    /// Every pod, because it is not known which are meant. Why its selector cannot be understood.
    Everything(String),
    /// The pods that the selector matches.
    Matching(Understood<'a>),
}

/// What a PodDisruptionBudget with this selector covers. An empty selector covers everything, an absent one nothing.
pub fn coverage(selector: Option<&LabelSelector>) -> Coverage<'_> {
    let Some(selector) = selector else { return Coverage::Nothing };
    if length(selector) > LONGEST {
        return Coverage::Everything(format!("it has more than {LONGEST} labels and values"));
    }
    understand(selector).map_or_else(Coverage::Everything, Coverage::Matching)
}

impl Coverage<'_> {
    /// Whether a pod of the budget's namespace with these labels is covered.
    pub fn covers(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything(_) => true,
            Self::Matching(selector) => selector.matches(labels),
        }
    }
}

impl<'a> Understood<'a> {
    /// Whether labels satisfy the selector. An empty one matches everything.
    pub fn matches(self, labels: &BTreeMap<String, String>) -> bool {
        let equal = self.0.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
        equal && self.0.match_expressions.iter().flatten().all(|requirement| satisfies(requirement, labels))
    }

    /// Labels without one of which nothing matches: for each requirement that can be told by a label, the key, and the values of which
    /// it must have one (none: any).
    pub fn needs(self) -> impl Iterator<Item = (&'a str, Vec<&'a str>)> {
        let equal = self.0.match_labels.iter().flatten().map(|(key, value)| (key.as_str(), vec![value.as_str()]));
        let listed = self.0.match_expressions.iter().flatten().filter_map(|requirement| {
            let values = requirement.values.iter().flatten().map(String::as_str).collect();
            matches!(requirement.operator.as_str(), "In" | "Exists").then_some((requirement.key.as_str(), values))
        });
        equal.chain(listed)
    }
}

/// The selector, if it means something; else why not.
///
/// # Errors
/// Says what cannot be understood.
pub fn understand(selector: &LabelSelector) -> Result<Understood<'_>, String> {
    for (key, value) in selector.match_labels.iter().flatten() {
        is_key(key)?;
        is_value(value)?;
    }
    for requirement in selector.match_expressions.iter().flatten() {
        let LabelSelectorRequirement { key, operator, values } = requirement;
        is_key(key)?;
        let values = values.as_deref().unwrap_or_default();
        match (operator.as_str(), values.is_empty()) {
            ("In" | "NotIn", false) => values.iter().try_for_each(|value| is_value(value))?,
            ("In" | "NotIn", true) => return Err(format!("operator {operator} of {key} needs values")),
            ("Exists" | "DoesNotExist", true) => {}
            ("Exists" | "DoesNotExist", false) => return Err(format!("operator {operator} of {key} takes no values")),
            _ => return Err(format!("operator {operator:?} of {key} is not In, NotIn, Exists or DoesNotExist")),
        }
    }
    Ok(Understood(selector))
}

fn length(selector: &LabelSelector) -> usize {
    let expressions = selector.match_expressions.iter().flatten();
    let listed: usize = expressions.map(|requirement| 1 + requirement.values.iter().flatten().count()).sum();
    listed + selector.match_labels.iter().flatten().count()
}

/// A label's key: a name, with a domain before a slash or without.
fn is_key(key: &str) -> Result<(), String> {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let domain = domain.is_none_or(|domain| domain.len() <= 253 && domain.split('.').all(part));
    if domain && !name.is_empty() && is_word(name) { Ok(()) } else { Err(format!("{key:?} is not the key of a label")) }
}

fn is_value(value: &str) -> Result<(), String> {
    if is_word(value) { Ok(()) } else { Err(format!("{value:?} is not the value of a label")) }
}

/// Nothing, or up to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn is_word(text: &str) -> bool {
    let outer = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= 63 && text.bytes().all(inner) && outer(text.bytes().next()) && outer(text.bytes().last())
}

fn satisfies(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|listed| listed == value));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        _ => value.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
            match_labels: None,
        }
    }

    fn equal(key: &str, value: &str) -> LabelSelector {
        LabelSelector { match_labels: Some([(key.to_owned(), value.to_owned())].into()), match_expressions: None }
    }

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
    fn expressions(
        #[case] operator: &str,
        #[case] values: &[&str],
        #[case] value: Option<&str>,
        #[case] expected: bool,
    ) {
        let selector = expression("key", operator, values);
        let labels = value.map(|value| ("key".to_owned(), value.to_owned())).into_iter().collect();
        assert_eq!(coverage(Some(&selector)).covers(&labels), expected);
        assert_eq!(understand(&selector).map(|selector| selector.matches(&labels)), Ok(expected));
    }

    #[rstest]
    #[case::unknown_operator(expression("key", "exists", &[]), "exists")]
    #[case::another_case(expression("key", "in", &["a"]), "in")]
    #[case::no_operator(expression("key", "", &[]), "")]
    #[case::in_nothing(expression("key", "In", &[]), "needs values")]
    #[case::not_in_nothing(expression("key", "NotIn", &[]), "needs values")]
    #[case::exists_with_values(expression("key", "Exists", &["a"]), "takes no values")]
    #[case::absent_with_values(expression("key", "DoesNotExist", &["a"]), "takes no values")]
    #[case::no_key(expression("", "Exists", &[]), "key")]
    #[case::odd_key(equal("app = x", "y"), "app = x")]
    #[case::odd_domain(equal("Example.com/app", "y"), "Example.com/app")]
    #[case::odd_value(expression("key", "In", &["a", "b c"]), "b c")]
    #[case::long_value(equal("app", &"x".repeat(64)), "value")]
    #[case::ends_in_a_dash(equal("app", "x-"), "x-")]
    fn what_cannot_be_understood_protects_and_covers_everything(#[case] selector: LabelSelector, #[case] word: &str) {
        for labels in [BTreeMap::new(), [("key".to_owned(), "z".to_owned())].into()] {
            let Err(why) = understand(&selector) else { panic!("understood") };
            assert!(why.contains(word), "{why}");
            let Coverage::Everything(why) = coverage(Some(&selector)) else { panic!("understood") };
            assert!(why.contains(word), "{why}");
            assert!(coverage(Some(&selector)).covers(&labels));
        }
    }

    #[rstest]
    #[case("app.kubernetes.io/name", "")]
    #[case("app", "A_b.c-9")]
    #[case("9", "9")]
    fn labels_as_they_are_in_clusters_are_understood(#[case] key: &str, #[case] value: &str) {
        let labels = [(key.to_owned(), value.to_owned())].into();
        assert_eq!(understand(&equal(key, value)).map(|selector| selector.matches(&labels)), Ok(true));
    }

    #[test]
    fn an_empty_selector_matches_everything_and_none_nothing() {
        let empty = LabelSelector::default();
        assert_eq!(understand(&empty).map(|selector| selector.matches(&BTreeMap::new())), Ok(true));
        assert!(coverage(Some(&LabelSelector::default())).covers(&BTreeMap::new()));
        assert!(!coverage(None).covers(&BTreeMap::new()));
    }

    #[test]
    fn a_budget_whose_selector_is_too_long_to_look_through_covers_everything() {
        let values: Vec<String> = (0..LONGEST).map(|number| number.to_string()).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        assert!(matches!(coverage(Some(&expression("key", "In", &values))), Coverage::Everything(_)));
        assert!(matches!(coverage(Some(&expression("key", "In", &values[1..]))), Coverage::Matching(_)));
    }
}
