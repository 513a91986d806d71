//! Errors and restarts that a NIC's PCI device and link have counted outside its telemetry.

use std::path::Path;

use crate::{
    AttributeError, AttributeErrorKind, Nic, Root,
    attribute::{self, decimal, optional, text},
    discovery,
};

/// What has gone wrong on a NIC's PCIe and fabric links since its driver was loaded. `None` where the NIC or its driver
/// does not count that; an attribute that could not be read carries the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCounts {
    /// PCIe errors that were corrected, from Advanced Error Reporting (`aer_dev_correctable` of the PCI core).
    pub aer_correctable: Result<Option<u64>, AttributeError>,
    /// PCIe errors that were not, and left the device usable.
    pub aer_nonfatal: Result<Option<u64>, AttributeError>,
    /// PCIe errors after which the device is not.
    pub aer_fatal: Result<Option<u64>, AttributeError>,
    /// PCIe errors that the NIC itself has corrected, from the counters the driver looks at every minute
    /// (`cass_pcie_mon.c`).
    pub pcie_corrected: Result<Option<u64>, AttributeError>,
    /// The same for those that it could not correct.
    pub pcie_uncorrected: Result<Option<u64>, AttributeError>,
    /// Times in seconds since 1970 at which the driver restarted the link, the last ten at most, in no order
    /// (`cass_lmon.c`).
    pub link_restarts: Result<Option<Vec<u64>>, AttributeError>,
    /// How often the link went down. Only Cassini 2 counts that (`sl_sysfs_link_counters.c`).
    pub link_down: Result<Option<u64>, AttributeError>,
    /// How often the link was started and did not come up. Only Cassini 2.
    pub link_up_failed: Result<Option<u64>, AttributeError>,
    /// Resource groups that can still be made; without any no application gets an endpoint.
    pub resource_groups_available: Result<Option<u64>, AttributeError>,
}

impl ErrorCounts {
    /// Reads the counts of `nic`; `None` when it is gone by the end of reading.
    pub fn read(root: &Root, nic: &Nic) -> Option<Self> {
        let device = root.class_directory().join(nic.name.to_string()).join("device");
        let number = |name: &str| number_at(&device, name);
        let aer = |name: &str| optional(attribute::read(&device.join(name), aer_total));
        let counts = Self {
            aer_correctable: aer("aer_dev_correctable"),
            aer_nonfatal: aer("aer_dev_nonfatal"),
            aer_fatal: aer("aer_dev_fatal"),
            pcie_corrected: number("properties/pcie_corr_err"),
            pcie_uncorrected: number("properties/pcie_uncorr_err"),
            link_restarts: link_restarts(&device),
            link_down: number("port/0/link/counters/link_down"),
            link_up_failed: number("port/0/link/counters/link_up_fail"),
            resource_groups_available: number("properties/rgids_avail"),
        };
        discovery::is_present(root, nic).then_some(counts)
    }
}

fn number_at(device: &Path, name: &str) -> Result<Option<u64>, AttributeError> {
    optional(attribute::read(&device.join(name), number))
}

/// The ring of ten slots that the driver writes in turn; 0 is a slot that was not used yet.
fn link_restarts(device: &Path) -> Result<Option<Vec<u64>>, AttributeError> {
    let mut times: Option<Vec<u64>> = None;
    for slot in 0..10 {
        if let Some(at) = number_at(device, &format!("link_restarts/time_{slot}"))? {
            times.get_or_insert_default().extend((at > 0).then_some(at));
        }
    }
    Ok(times)
}

fn number(bytes: &[u8]) -> Result<u64, AttributeErrorKind> {
    let text = text(bytes)?;
    decimal(text).ok_or_else(|| AttributeErrorKind::invalid(text, "a number"))
}

/// The sum that ends an `aer_dev_*` file: a line `TOTAL_ERR_COR 3`, or the same with another ending
/// (`Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats` of the kernel).
fn aer_total(bytes: &[u8]) -> Result<u64, AttributeErrorKind> {
    let text = text(bytes)?;
    let total = text.lines().find_map(|line| {
        let (name, count) = line.split_once(' ')?;
        name.starts_with("TOTAL_ERR_").then(|| decimal(count.trim()))?
    });
    total.ok_or_else(|| AttributeErrorKind::invalid(text, "lines of the form `RxErr 0`, one of them TOTAL_ERR_…"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_of_aer() {
        assert_eq!(aer_total(b"RxErr 1\nBadTLP 2\nTOTAL_ERR_COR 3\n"), Ok(3));
        assert_eq!(aer_total(b"Undefined 0\nTOTAL_ERR_NONFATAL 0\n"), Ok(0));
        for text in ["RxErr 1\n", "TOTAL_ERR_COR\n", "TOTAL_ERR_COR x\n", "TOTAL_ERR_COR -1\n", "3\n"] {
            assert!(aer_total(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(aer_total(b""), Err(AttributeErrorKind::Empty));
    }

    #[test]
    fn any_input_has_a_sum_of_errors_that_is_in_it_or_none() {
        let files: [&[u8]; 2] =
            [b"RxErr 1\nBadTLP 2\nTOTAL_ERR_COR 3\n", b"Undefined 0\nTOTAL_ERR_NONFATAL 18446744073709551615\n"];
        cxi_any_input::bytes(&files, &|bytes| {
            let sum = aer_total(bytes);
            if let Ok(sum) = &sum {
                let text = std::str::from_utf8(bytes).unwrap().trim();
                let words = |line: &str| line.split_once(' ').and_then(|(_, count)| count.trim().parse::<u128>().ok());
                let sums = text.lines().filter(|line| line.starts_with("TOTAL_ERR_")).filter_map(words);
                assert!(sums.into_iter().any(|other| other == u128::from(*sum)), "{sum}");
            }
            sum.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_a_count_or_refused() {
        cxi_any_input::bytes(&[b"0\n", b"18446744073709551615\n", b"2048"], &|bytes| {
            let count = number(bytes);
            if let Ok(count) = &count {
                assert_eq!(std::str::from_utf8(bytes).unwrap().trim().parse(), Ok(u128::from(*count)));
            }
            count.is_ok().into()
        });
    }

    proptest! {
        #[test]
        fn the_sum_is_found_among_any_lines(lines in "([A-Za-z]{1,9} [0-9]{1,3}\n){0,4}", sum in any::<u64>()) {
            prop_assert_eq!(aer_total(format!("{lines}TOTAL_ERR_FATAL {sum}\n").as_bytes()), Ok(sum));
        }
    }
}
