//! Durations as administrators write them: Go's notation, as in the rest of Kubernetes (`90s`, `5m`, `1h30m`).

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de, ser};

/// A CEL expression that is true for what [`GoDuration`] accepts. Both count as Go does, and both stop at [`GoDuration::MAX`].
/// The digits of a number are bounded so that no sum of them is too long for `duration`: a rule that cannot be evaluated, unlike one
/// that is false, would keep the status of stored objects from being written.
const CEL: &str = r"self.matches('^(([0-9]{1,5}([.][0-9]+)?h)|([0-9]{1,7}([.][0-9]+)?m)|([0-9]{1,9}([.][0-9]+)?s)|([0-9]{1,12}([.][0-9]+)?ms))+$') && duration(self) <= duration('87600h')";

/// Longest text of a duration.
const MAX_LENGTH: usize = 32;

/// A duration in Go's notation. Units: `ms`, `s`, `m`, `h`; several may follow each other; negative values are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// What is wrong with a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration such as 90s, 5m or 1h30m, and at most 87600h (10 years)")]
pub struct InvalidDuration(String);

// === impl GoDuration ===

impl GoDuration {
    /// The longest: ten years of 365 days. With it every sum of times can be represented.
    pub const MAX: Self = Self::hours(10 * 365 * 24);

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
        parse(text).filter(|duration| *duration <= Self::MAX).ok_or_else(|| InvalidDuration(text.to_owned()))
    }
}

/// The sum of all numbers with their units.
fn parse(text: &str) -> Option<GoDuration> {
    if text.is_empty() || text.len() > MAX_LENGTH {
        return None;
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (whole, tail) = digits(rest)?;
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => digits(tail)?,
            None => ("", tail),
        };
        let (Unit { nanos, digits, .. }, tail) = unit(tail)?;
        if whole.len() > digits {
            return None;
        }
        total = total.checked_add(scaled(whole, fraction, nanos)?)?;
        rest = tail;
    }
    Some(GoDuration(total))
}

/// The digits in front, at least one, and what follows them.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())
}

/// A unit of time.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    nanos: u64,
    /// How many digits a number of them may have before the point.
    digits: usize,
}

const SECOND: u64 = 1_000_000_000;

/// `ms` stands before `m`, with which it begins.
const UNITS: [Unit; 4] = [
    Unit { name: "ms", nanos: SECOND / 1000, digits: 12 },
    Unit { name: "s", nanos: SECOND, digits: 9 },
    Unit { name: "m", nanos: 60 * SECOND, digits: 7 },
    Unit { name: "h", nanos: 3600 * SECOND, digits: 5 },
];

/// The unit in front, and what follows it.
fn unit(text: &str) -> Option<(Unit, &str)> {
    UNITS.into_iter().find_map(|unit| Some((unit, text.strip_prefix(unit.name)?)))
}

/// A decimal number of units. The fraction is computed as Go's `time.ParseDuration` does, to the last nanosecond: the API server
/// compares what that makes of a duration with [`GoDuration::MAX`].
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "Go computes with float64 and cuts off, and the result is below one unit"
)]
fn scaled(whole: &str, fraction: &str, unit: u64) -> Option<Duration> {
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let (mut digits, mut scale) = (0_u64, 1.0);
    for digit in fraction.bytes() {
        // Further digits than a number of 63 bits has count for nothing.
        let Some(more) = digits.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit - b'0'))) else {
            break;
        };
        if more > 1 << 63 {
            break;
        }
        digits = more;
        scale *= 10.0;
    }
    let part = (digits as f64 * (unit as f64 / scale)) as u64;
    Some(Duration::from_nanos(whole.checked_add(part)?))
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
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [{
                "rule": CEL,
                "message": "must be a duration such as 90s, 5m or 1h30m, and at most 87600h (10 years)"
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
    #[case("90s5m", 390)]
    #[case("87600h", 315_360_000)]
    #[case("87600h0.0000000001s", 315_360_000)]
    #[case("315360000s", 315_360_000)]
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
    #[case("87600h1ms")]
    #[case("87600h0.000000001s")]
    #[case("87601h")]
    #[case("000001h")]
    #[case("9999999h")]
    #[case("99999999999999999999h")]
    #[case("0.000000000000000000000000000001h")]
    #[case("1.2.3s")]
    fn rejects(#[case] text: &str) {
        assert!(text.parse::<GoDuration>().is_err(), "{text}");
    }

    #[rstest]
    #[case("1.5ms", 1_500_000)]
    #[case("0.000000001s", 1)]
    #[case("0.0000000009s", 0)]
    #[case("0.999999999999999999h", 3_600_000_000_000)]
    #[case("0.9999999999999999999999999999h", 3_600_000_000_000)]
    #[case("0.3333333333333333333h", 1_200_000_000_000)]
    fn fractions_are_what_go_makes_of_them(#[case] text: &str, #[case] nanos: u64) {
        assert_eq!(text.parse::<GoDuration>().unwrap().0, Duration::from_nanos(nanos));
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
