//! One NIC and its attributes.

use std::{fmt, str::FromStr};

use crate::{AttributeError, AttributeErrorKind, PciAddress, PciId};

/// What a scan found out about one NIC. Attributes that could not be read carry the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Name of the class device and of the device node. Not stable: see [`NicName`].
    pub name: NicName,
    /// Where it sits; the stable key of a NIC.
    pub address: PciAddress,
    /// Vendor and device id.
    pub id: Result<PciId, AttributeError>,
    /// Physical or virtual function.
    pub function: Result<Function, AttributeError>,
    /// NUMA node it is attached to, `None` where the platform names none.
    pub numa_node: Result<Option<u32>, AttributeError>,
    /// State of the physical link; of a virtual function that of its physical one, missing inside a virtual machine.
    pub link: Result<Link, AttributeError>,
    /// Name of its network interface, `None` while it has none or the interface is in another network namespace
    /// (sysfs shows only the reader's).
    pub netdev: Result<Option<String>, AttributeError>,
    /// Whether the root's device node is there. A directory or a file in its place is none.
    pub device_node: Result<bool, AttributeError>,
}

impl Nic {
    /// What is wrong with the state of the link, if it cannot be read; `None` also for a virtual function in a virtual
    /// machine, which never shows it.
    pub fn link_error(&self) -> Option<&AttributeError> {
        let untold = |error: &AttributeError| {
            self.function == Ok(Function::Virtual) && error.kind == AttributeErrorKind::Missing
        };
        self.link.as_ref().err().filter(|error| !untold(error))
    }
}

/// State of the physical link, from `properties/link`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The link is running.
    Up,
    /// Anything else.
    Down,
}

/// Kind of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Physical function.
    Physical,
    /// Virtual function (SR-IOV).
    Virtual,
}

/// `cxiN`. The driver counts N up with every probe and starts at 0 again when it is reloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NicName(u32);

/// The text is not `cxi` followed by a number without leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cxi device name of the form cxi0")]
pub struct NicNameError;

impl NicName {
    /// The name with number `number`.
    pub fn new(number: u32) -> Self {
        Self(number)
    }

    /// N of `cxiN`.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for NicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cxi{}", self.0)
    }
}

impl FromStr for NicName {
    type Err = NicNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix("cxi").and_then(|number| number.parse().ok()).ok_or(NicNameError)?;
        let name = Self(number);
        if name.to_string() == text { Ok(name) } else { Err(NicNameError) }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("cxi0", 0)]
    #[case("cxi10", 10)]
    #[case("cxi4294967295", u32::MAX)]
    fn accepts(#[case] text: &str, #[case] number: u32) {
        assert_eq!(text.parse(), Ok(NicName::new(number)));
    }

    #[rstest]
    #[case("")]
    #[case("cxi")]
    #[case("cxi01")]
    #[case("cxi+1")]
    #[case("cxi4294967296")]
    #[case("hsn0")]
    #[case("cxi0 ")]
    fn rejects(#[case] text: &str) {
        assert_eq!(text.parse::<NicName>(), Err(NicNameError));
    }

    #[test]
    fn any_input_is_a_name_or_refused() {
        cxi_any_input::text(&["cxi0", "cxi17", "cxi4294967295"], &|text| {
            let name = text.parse::<NicName>();
            assert!(name.is_err() || name.is_ok_and(|name| name.to_string() == text));
            name.is_ok().into()
        });
    }
}
