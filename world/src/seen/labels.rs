//! Labels in one piece of text. A map of its own for each object would be most of what is kept in memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Ends each key and each value; labels cannot have it.
const END: char = '\0';

/// Labels of an object, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<str>);

impl Labels {
    /// Value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// All labels.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.0.split(END);
        std::iter::from_fn(move || rest.next().zip(rest.next()))
    }

    /// Memory that they take.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a map.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Those with one of these keys.
    #[must_use]
    pub fn only(&self, keys: &[&str]) -> Self {
        self.iter().filter(|(key, _)| keys.contains(key)).collect()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Labels {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(labels: T) -> Self {
        let mut text = String::new();
        for part in labels.into_iter().flat_map(|(key, value)| [key, value]) {
            text.push_str(part);
            text.push(END);
        }
        Self(text.into())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: Option<BTreeMap<String, String>> = Option::deserialize(deserializer)?;
        let map = map.unwrap_or_default();
        if map.iter().any(|(key, value)| key.contains(END) || value.contains(END)) {
            return Err(serde::de::Error::custom("a label with a character that labels cannot have"));
        }
        Ok(map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(json: serde_json::Value) -> Labels {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn labels_are_what_was_read() {
        let labels = labels(json!({"b": "2", "a": "1", "empty": ""}));
        assert_eq!(
            (labels.get("a"), labels.get("empty"), labels.get("1"), labels.get("")),
            (Some("1"), Some(""), None, None)
        );
        assert_eq!(labels.to_map(), [("a", "1"), ("b", "2"), ("empty", "")].map(|(k, v)| (k.into(), v.into())).into());
        assert_eq!(labels.only(&["b", "c"]).iter().collect::<Vec<_>>(), [("b", "2")]);
    }

    #[test]
    fn none_are_none_however_that_is_written() {
        for none in [json!(null), json!({})] {
            assert!(labels(none.clone()).is_empty());
            assert_eq!(labels(none).iter().count(), 0);
        }
    }

    #[test]
    fn labels_that_cannot_be_are_refused() {
        assert!(serde_json::from_value::<Labels>(json!({"a\0b": "c"})).is_err());
        assert!(serde_json::from_value::<Labels>(json!({"a": 5})).is_err());
    }
}
