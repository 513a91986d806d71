//! The driver's telemetry: one file per hardware counter, in `telemetry/` of a physical function.
//!
//! The driver reads the hardware each time one of these files is read, and prints `value@seconds.nanoseconds`, the time
//! being that of the reading (`cass_telem.c`). Counters start at 0 when the driver is loaded and have 56 bits. There is no
//! file with all of them, and there are close to 2000, so a reader chooses.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::PathBuf};

use crate::{
    AttributeError, AttributeErrorKind, Nic, Root,
    attribute::{self, decimal, text},
};

/// Width of a counter in the hardware (`cxi_stat.c` allows for it in differences).
const COUNTER_BITS: u32 = 56;

/// The telemetry of one NIC.
#[derive(Clone, Debug)]
pub struct Telemetry {
    path: PathBuf,
    directory: TelemetryDirectory,
}

/// Which telemetry directory it is: another one after the device was removed and came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TelemetryDirectory {
    device: u64,
    inode: u64,
}

impl Telemetry {
    /// Finds the telemetry of `nic`; `None` when it has none, as virtual functions, or is gone.
    ///
    /// # Errors
    /// When it cannot be told whether it is there.
    pub fn find(root: &Root, nic: &Nic) -> Result<Option<Self>, AttributeError> {
        let link = root.class_directory().join(nic.name.to_string()).join("device");
        // Each of the files would be found by way of the same links again.
        let found = fs::canonicalize(&link).map(|device| device.join("telemetry"));
        match found.and_then(|path| Ok((fs::metadata(&path)?, path))) {
            Ok((metadata, path)) => {
                let directory = TelemetryDirectory { device: metadata.dev(), inode: metadata.ino() };
                Ok(Some(Self { path, directory }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(AttributeError { path: link.join("telemetry"), kind: AttributeErrorKind::from_io(&error) })
            }
        }
    }

    /// Which directory it is.
    pub fn directory(&self) -> TelemetryDirectory {
        self.directory
    }

    /// Names of all counters, in no order. Entries that are not named like one are left out.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, AttributeError> {
        let failed =
            |error: io::Error| AttributeError { path: self.path.clone(), kind: AttributeErrorKind::from_io(&error) };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
                && is_counter_name(&name)
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The counter `name` now.
    ///
    /// # Errors
    /// When there is no such counter, it cannot be read, or is not of the driver's form. Never a value that the hardware
    /// did not give: all bits set is how a device that has dropped off the bus reads.
    pub fn read(&self, name: &str) -> Result<u64, AttributeError> {
        attribute::read(&self.path.join(name), reading)
    }
}

/// Lower-case letters, digits and underscores, as all counters of the driver.
fn is_counter_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// The value of `%llu@%lld.%09lu`.
fn reading(bytes: &[u8]) -> Result<u64, AttributeErrorKind> {
    let text = text(bytes)?;
    let parse = || {
        let (value, at) = text.split_once('@')?;
        let (seconds, nanoseconds) = at.split_once('.')?;
        decimal::<u64>(seconds.strip_prefix('-').unwrap_or(seconds))?;
        (nanoseconds.len() == 9).then(|| decimal::<u32>(nanoseconds))??;
        decimal::<u64>(value)
    };
    match parse() {
        Some(value) if value == u64::MAX || value == (1 << COUNTER_BITS) - 1 => {
            Err(AttributeErrorKind::invalid(text, "a value of a device that answers"))
        }
        Some(value) => Ok(value),
        None => Err(AttributeErrorKind::invalid(text, "value@seconds.nanoseconds")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0@1700000000.000000001\n", 0)]
    #[case("72057594037927934@1.123456789", (1 << 56) - 2)]
    #[case("72057594037927936@1.123456789", 1 << 56)]
    #[case("5@-1.000000000\n", 5)]
    fn accepts(#[case] text: &str, #[case] value: u64) {
        assert_eq!(reading(text.as_bytes()), Ok(value));
    }

    #[rstest]
    #[case("5\n")]
    #[case("5@1\n")]
    #[case("5@1.5\n")]
    #[case("-5@1.000000000")]
    #[case("+5@1.000000000")]
    #[case("@1.000000000")]
    #[case("18446744073709551616@1.000000000")]
    #[case("72057594037927935@1.000000000")]
    #[case("18446744073709551615@1.000000000")]
    #[case("5@1.000000000 6@1.000000000")]
    fn rejects(#[case] text: &str) {
        assert!(matches!(reading(text.as_bytes()), Err(AttributeErrorKind::Invalid { .. })), "{text}");
    }

    #[test]
    fn an_empty_file_is_empty() {
        assert_eq!(reading(b"\n"), Err(AttributeErrorKind::Empty));
    }

    #[test]
    fn names() {
        assert!(is_counter_name("hni_rx_ok_36_to_63"));
        for name in ["", "ALL-in-binary", "a b", "a\"", "é", "a.b"] {
            assert!(!is_counter_name(name), "{name}");
        }
    }

    #[test]
    fn any_input_is_a_reading_or_refused() {
        let files: [&[u8]; 3] =
            [b"0@0.000000000\n", b"72057594037927934@1767225600.123456789\n", b"18@-62135596800.000000001"];
        cxi_any_input::bytes(&files, &|bytes| {
            let value = reading(bytes);
            if let Ok(value) = &value {
                let text = std::str::from_utf8(bytes).unwrap().trim();
                let (printed, at) = text.split_once('@').unwrap();
                assert_eq!(printed.parse(), Ok(u128::from(*value)));
                assert!(at.parse::<f64>().is_ok(), "{at}");
            }
            value.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_the_name_of_a_counter_or_not() {
        cxi_any_input::text(&["hni_rx_ok_27", "pct_spt_timeouts", "lpe_net_match_36_to_63"], &|name| {
            let is_one = is_counter_name(name);
            assert!(!is_one || std::path::Path::new(name).components().count() == 1, "it leads elsewhere");
            is_one.into()
        });
    }

    proptest! {
        #[test]
        fn what_the_driver_prints_is_read(value in 0_u64..(1 << 56) - 1, seconds in any::<i64>(), nanos in 0..1_000_000_000_u32) {
            let text = format!("{value}@{seconds}.{nanos:09}\n");
            prop_assert_eq!(reading(text.as_bytes()), Ok(value));
        }
    }
}
