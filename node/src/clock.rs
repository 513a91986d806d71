//! The wall clock, as far as it can be written and read again.

use std::time::SystemTime;

use jiff::Timestamp;

/// The last time that is told, the beginning of the year 9000. The API takes times until the end of 9999 and jiff reads them until two
/// days before that; up to here, sums with any duration can be read too.
const LAST: Timestamp = Timestamp::constant(221_845_392_000, 0);

/// The time now. A clock that is set to a time before 1970 or after 9000 tells the nearest of the two, so that what is written with
/// it can be read by all who read it.
pub fn now() -> Timestamp {
    told(SystemTime::now())
}

fn told(clock: SystemTime) -> Timestamp {
    let out_of_range = if clock < SystemTime::UNIX_EPOCH { Timestamp::UNIX_EPOCH } else { LAST };
    Timestamp::try_from(clock).unwrap_or(out_of_range).clamp(Timestamp::UNIX_EPOCH, LAST)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::in_1969(-1, "1970-01-01T00:00:00Z")]
    #[case::in_2026(1_767_225_600, "2026-01-01T00:00:00Z")]
    #[case::at_the_end_of_9999(253_402_300_799, "9000-01-01T00:00:00Z")]
    #[case::after_the_end_of_what_jiff_reads(253_402_300_800, "9000-01-01T00:00:00Z")]
    #[case::in_a_million_years(31_556_952_000_000, "9000-01-01T00:00:00Z")]
    fn any_clock_tells_a_time_that_can_be_read(#[case] seconds: i64, #[case] expected: &str) {
        let by = Duration::from_secs(seconds.unsigned_abs());
        let clock = if seconds < 0 { SystemTime::UNIX_EPOCH - by } else { SystemTime::UNIX_EPOCH + by };
        assert_eq!(told(clock).to_string(), expected);
    }
}
