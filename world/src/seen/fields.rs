//! Fields of others: read with a fallback, because a value that Rust does not take is no reason to lose the object.

use cxi_api::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The last time that counts, the beginning of the year 9000; later ones are taken for it. jiff's own end is 9999-12-30T22:00:00Z,
/// two days before that of Go and of the API server; and up to here any duration of the API (a century) can be added.
pub const LAST: Timestamp = Timestamp::constant(221_845_392_000, 0);

/// A time as the API server writes it. `None` for what is no time.
pub fn time(text: &str) -> Option<Timestamp> {
    let late = || text.starts_with("9999-").then_some(LAST);
    text.parse().ok().or_else(late).map(|time: Timestamp| time.min(LAST))
}

/// When an object was created. One that does not say so is the oldest; one of which it cannot be read the youngest, so that it
/// takes nothing from others.
pub fn created(value: Option<&Value>) -> Timestamp {
    value.map_or_else(Timestamp::default, |value| value.as_str().and_then(time).unwrap_or(LAST))
}

/// When an object that is being deleted has to be gone. A time that cannot be read is still one: it is being deleted, and it is
/// not known until when.
pub fn ends(value: Option<&Value>) -> Option<Timestamp> {
    value.map(|value| value.as_str().and_then(time).unwrap_or(LAST))
}

/// How many of an extended resource. A quantity that cannot be read counts as one: it is not nothing.
pub fn count(quantity: &Value) -> i64 {
    let text = match quantity {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "Ki" => 1_024,
        "Mi" => 1_048_576,
        _ => return 1,
    };
    number.parse::<i64>().ok().and_then(|number| number.checked_mul(factor)).unwrap_or(1)
}

/// For `null`, the default: Go writes it for empty lists and maps.
///
/// # Errors
/// When it is something else that cannot be read.
pub fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What can be read, else the default: for fields that are of no use unless they can.
///
/// # Errors
/// When it is no JSON.
pub fn lenient<'de, T: Default + serde::de::DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z"))]
    #[case("9999-12-30T22:00:00Z", Some("9000-01-01T00:00:00Z"))]
    #[case("9999-12-31T23:59:59Z", Some("9000-01-01T00:00:00Z"))]
    #[case("9000-01-01T00:00:01Z", Some("9000-01-01T00:00:00Z"))]
    #[case("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z"))]
    #[case("soon", None)]
    #[case("", None)]
    fn times(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(time(text).map(|time| time.to_string()).as_deref(), expected);
    }

    #[test]
    fn a_century_can_be_added_to_any_time() {
        let century = std::time::Duration::from_hours(100 * 366 * 24);
        assert!(LAST.checked_add(century).is_ok());
        assert!(time("0000-01-01T00:00:00Z").unwrap().checked_sub(century).is_ok());
    }

    #[test]
    fn a_time_that_cannot_be_read_is_on_the_safe_side() {
        assert_eq!(created(None), Timestamp::UNIX_EPOCH);
        assert_eq!([created(Some(&json!("soon"))), created(Some(&json!(5)))], [LAST; 2]);
        assert_eq!(ends(None), None);
        assert_eq!([ends(Some(&json!("soon"))), ends(Some(&json!({})))], [Some(LAST); 2]);
    }

    #[rstest]
    #[case(json!("8"), 8)]
    #[case(json!("1k"), 1000)]
    #[case(json!("0"), 0)]
    #[case(json!(0), 0)]
    #[case(json!(3), 3)]
    #[case(json!("nonsense"), 1)]
    #[case(json!("99999999999999999999"), 1)]
    #[case(json!(null), 1)]
    fn counts(#[case] quantity: Value, #[case] expected: i64) {
        assert_eq!(count(&quantity), expected);
    }
}
