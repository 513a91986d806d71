//! What a retry handler counts: one small file each, `"%d\n"`, served by the handler itself (`stats.c` of libcxi).

use std::{collections::BTreeMap, path::Path};

use super::StatisticsError;
use crate::{
    AttributeError, AttributeErrorKind,
    attribute::{self, text},
};

/// ENOTCONN, what a file system answers whose server died. The number is the same on every architecture we build for.
const NOT_CONNECTED: std::io::ErrorKind = std::io::ErrorKind::NotConnected;

/// How a value behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counts events since the handler started. It is a C `int`: after 2,147,483,647 comes -2,147,483,648.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Every file that is read, by its name. Releases of the handler have more or fewer of them. `reset_counters` is not
/// among them: it acts.
pub const STATISTICS: [(&str, Kind); 39] = [
    ("accel_close_complete", Kind::Counter),
    ("cancel_no_matching_conn", Kind::Counter),
    ("cancel_resource_busy", Kind::Counter),
    ("cancel_tct_closed", Kind::Counter),
    ("cancel_trs_pend_rsp", Kind::Counter),
    ("connections_cancelled", Kind::Counter),
    ("ignored_sct_timeouts", Kind::Counter),
    ("max_nid_tree_count", Kind::Gauge),
    ("max_parked_nids", Kind::Gauge),
    ("max_parked_switches", Kind::Gauge),
    ("max_switch_tree_count", Kind::Gauge),
    ("mst_in_use", Kind::Gauge),
    ("nack_no_matching_conn", Kind::Counter),
    ("nack_no_target_conn", Kind::Counter),
    ("nack_no_target_mst", Kind::Counter),
    ("nack_no_target_trs", Kind::Counter),
    ("nack_resource_busy", Kind::Counter),
    ("nack_sequence_error", Kind::Counter),
    ("nack_trs_pend_rsp", Kind::Counter),
    ("nacks", Kind::Counter),
    ("nid_tree_count", Kind::Gauge),
    ("nid_value", Kind::Gauge),
    ("parked_nids", Kind::Gauge),
    ("parked_switches", Kind::Gauge),
    ("pkts_cancelled_o", Kind::Counter),
    ("pkts_cancelled_u", Kind::Counter),
    ("rh_sct_status_change", Kind::Counter),
    ("sct_in_use", Kind::Gauge),
    ("sct_timeouts", Kind::Counter),
    ("smt_in_use", Kind::Gauge),
    ("spt_in_use", Kind::Gauge),
    ("spt_timeouts", Kind::Counter),
    ("spt_timeouts_o", Kind::Counter),
    ("spt_timeouts_u", Kind::Counter),
    ("srb_in_use", Kind::Gauge),
    ("switch_tree_count", Kind::Gauge),
    ("tct_in_use", Kind::Gauge),
    ("tct_timeouts", Kind::Counter),
    ("trs_in_use", Kind::Gauge),
];

/// How the value called `name` behaves; `None` for a name that is not in [`STATISTICS`].
pub fn kind(name: &str) -> Option<Kind> {
    STATISTICS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// What one retry handler counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Value by name; the names are those of [`STATISTICS`] that this handler has.
    pub values: BTreeMap<&'static str, i32>,
    /// Those that are there and have no usable value.
    pub errors: Vec<AttributeError>,
}

impl Statistics {
    /// Reads all in `directory`, for as long as the handler takes.
    pub(super) fn read(directory: &Path) -> Result<Self, StatisticsError> {
        let mut statistics = Self::default();
        for (name, _) in STATISTICS {
            match attribute::read(&directory.join(name), value) {
                Ok(value) => {
                    statistics.values.insert(name, value);
                }
                Err(AttributeError { kind: AttributeErrorKind::Missing, .. }) => {}
                Err(AttributeError { kind: AttributeErrorKind::Unreadable(NOT_CONNECTED), .. }) => {
                    return Err(StatisticsError::Gone { directory: directory.into() });
                }
                Err(error) => statistics.errors.push(error),
            }
        }
        if statistics.values.is_empty() {
            return Err(match statistics.errors.pop() {
                Some(error) => StatisticsError::Unreadable(error),
                None => StatisticsError::Absent { directory: directory.into() },
            });
        }
        Ok(statistics)
    }
}

/// A C `int` in decimal.
fn value(bytes: &[u8]) -> Result<i32, AttributeErrorKind> {
    let text = text(bytes)?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    Some(text)
        .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| AttributeErrorKind::invalid(text, "a number of 32 bits"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_numbers_that_may_have_wrapped() {
        assert_eq!(value(b"0\n"), Ok(0));
        assert_eq!(value(b"2147483647\n"), Ok(i32::MAX));
        assert_eq!(value(b"-2147483648\n"), Ok(i32::MIN));
        assert_eq!(value(b""), Err(AttributeErrorKind::Empty));
        for wrong in ["+1", "--1", "-", "2147483648", "1 2", "x"] {
            assert!(matches!(value(wrong.as_bytes()), Err(AttributeErrorKind::Invalid { .. })), "{wrong}");
        }
    }

    #[test]
    fn what_is_there_is_read_and_what_acts_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let read = || Statistics::read(directory.path());
        assert!(matches!(read(), Err(StatisticsError::Absent { .. })));
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("reset_counters", "0\n");
        write("nacks", "x\n");
        assert!(matches!(read(), Err(StatisticsError::Unreadable(_))));
        write("spt_timeouts", "7\n");
        write("srb_in_use", "3\n");
        let statistics = read().unwrap();
        assert_eq!(statistics.values, BTreeMap::from([("spt_timeouts", 7), ("srb_in_use", 3)]));
        assert!(statistics.errors[0].path.ends_with("nacks"), "{statistics:?}");
        assert_eq!((kind("nacks"), kind("srb_in_use")), (Some(Kind::Counter), Some(Kind::Gauge)));
        assert_eq!(kind("reset_counters"), None);
    }

    #[test]
    fn names_are_in_order_and_distinct() {
        assert!(STATISTICS.is_sorted_by(|left, right| left.0 < right.0));
    }

    #[test]
    fn any_input_is_a_value_or_refused() {
        cxi_any_input::bytes(&[b"0\n", b"2147483647\n", b"-2147483648\n"], &|bytes| {
            let value = value(bytes);
            if let Ok(value) = &value {
                assert_eq!(std::str::from_utf8(bytes).unwrap().trim().parse(), Ok(i128::from(*value)));
            }
            value.is_ok().into()
        });
    }

    proptest! {
        #[test]
        fn every_value_is_read(number in any::<i32>()) {
            prop_assert_eq!(value(format!("{number}\n").as_bytes()), Ok(number));
        }
    }
}
