//! Durations as administrators write them: Go's notation, as in the rest of Kubernetes (`90s`, `5m`, `1h30m`).

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de, ser};

/// A CEL expression that is true for what [`GoDuration`] accepts.
pub const CEL_DURATION: &str = r"self.matches('^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$')";

/// A duration in Go's notation. Units: `ms`, `s`, `m`, `h`; several may follow each other; negative values are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// More than anybody waits; the limit keeps every sum of times representable.
const CENTURY: Duration = Duration::from_hours(100 * 366 * 24);

/// What is wrong with a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration; write it as in 90s, 5m or 1h30m")]
pub struct InvalidDuration(String);

// === impl GoDuration ===

impl GoDuration {
    /// A whole number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A whole number of minutes.
    pub const fn minutes(minutes: u64) -> Self {
        Self::seconds(minutes * 60)
    }

    /// A whole number of hours.
    pub const fn hours(hours: u64) -> Self {
        Self::minutes(hours * 60)
    }
}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut rest = text;
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
            let (number, tail) = rest.split_at(unit_at);
            if number.starts_with('.') || number.ends_with('.') {
                return Err(invalid());
            }
            let number: f64 = number.parse().map_err(|_| invalid())?;
            let (unit, tail) = if let Some(tail) = tail.strip_prefix("ms") {
                (0.001, tail)
            } else if let Some(tail) = tail.strip_prefix('s') {
                (1.0, tail)
            } else if let Some(tail) = tail.strip_prefix('m') {
                (60.0, tail)
            } else if let Some(tail) = tail.strip_prefix('h') {
                (3600.0, tail)
            } else {
                return Err(invalid());
            };
            let part = Duration::try_from_secs_f64(number * unit).map_err(|_| invalid())?;
            total = total.checked_add(part).ok_or_else(invalid)?;
            rest = tail;
        }
        if total > CENTURY {
            return Err(invalid());
        }
        Ok(Self(total))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if seconds > 0 || (hours == 0 && minutes == 0 && millis == 0) {
            write!(f, "{seconds}s")?;
        }
        if millis > 0 {
            write!(f, "{millis}ms")?;
        }
        Ok(())
    }
}

impl Serialize for GoDuration {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GoDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": CEL_DURATION,
                "message": "must be a duration such as 90s, 5m or 1h30m"
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("5m", 300)]
    #[case("1h30m", 5400)]
    #[case("24h", 86_400)]
    #[case("90s", 90)]
    #[case("1.5h", 5400)]
    #[case("0s", 0)]
    fn accepts(#[case] text: &str, #[case] seconds: u64) {
        assert_eq!(text.parse::<GoDuration>().unwrap(), GoDuration::seconds(seconds));
    }

    #[rstest]
    #[case("")]
    #[case("5")]
    #[case("-5m")]
    #[case("5 m")]
    #[case("five minutes")]
    #[case(".m")]
    #[case("1.m")]
    #[case("1d")]
    #[case("99999999999999999999h")]
    fn rejects(#[case] text: &str) {
        assert!(text.parse::<GoDuration>().is_err(), "{text}");
    }

    #[test]
    fn any_input_is_a_duration_or_refused() {
        cxi_any_input::text(&["1h30m", "1500ms", "1.5h", "90s"], &|text| {
            let duration = text.parse::<GoDuration>();
            if let Ok(GoDuration(duration)) = &duration {
                let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap());
                let again = GoDuration(whole).to_string().parse::<GoDuration>().unwrap();
                assert_eq!(again.0.as_millis(), whole.as_millis());
                assert!(text.starts_with(|first: char| first.is_ascii_digit() || first == '.'), "{text}");
            }
            duration.is_ok().into()
        });
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_can_be_read(millis in 0u64..10_000_000_000) {
            let duration = GoDuration(Duration::from_millis(millis));
            let back: GoDuration = duration.to_string().parse().unwrap();
            proptest::prop_assert_eq!(duration.0.as_millis(), back.0.as_millis());
        }
    }
}
