//! PCI addresses and ids as sysfs prints them.

use std::{fmt, str::FromStr};

/// Position of a function on the PCI bus, printed `dddd:bb:dd.f` in lower-case hexadecimal.
///
/// The domain has four digits, or more for bridges that make up domains (the kernel prints it with `%04x`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// The text is not a PCI address of the form `0000:c1:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pci address of the form 0000:c1:00.0")]
pub struct PciAddressError;

/// Vendor and device id of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciId {
    /// Who made it, e.g. `0x17db` (Cray) or `0x1590` (HPE).
    pub vendor: u16,
    /// What it is, e.g. `0x0501` (Cassini 1).
    pub device: u16,
}

impl PciId {
    /// Cassini 1; physical and virtual functions share this id.
    pub const CASSINI_1: Self = Self { vendor: 0x17db, device: 0x0501 };
    /// Cassini 2, physical function.
    pub const CASSINI_2: Self = Self { vendor: 0x1590, device: 0x0371 };
    /// Cassini 2, virtual function.
    pub const CASSINI_2_VF: Self = Self { vendor: 0x1590, device: 0x0372 };

    /// Generation of Cassini, `None` for an id that is not a Cassini. The ids are those of the driver's `cass_core.h`.
    pub fn cassini_generation(self) -> Option<u8> {
        match self {
            Self::CASSINI_1 => Some(1),
            Self::CASSINI_2 | Self::CASSINI_2_VF => Some(2),
            _ => None,
        }
    }
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = PciAddressError;

    /// Accepts exactly what the kernel prints, so that text and address stand for each other one to one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.split_once(':')?;
            let address = Self {
                domain: u32::from_str_radix(domain, 16).ok()?,
                bus: u8::from_str_radix(bus, 16).ok()?,
                device: u8::from_str_radix(device, 16).ok().filter(|device| *device < 32)?,
                function: u8::from_str_radix(function, 16).ok().filter(|function| *function < 8)?,
            };
            (address.to_string() == text).then_some(address)
        };
        parse().ok_or(PciAddressError)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0000:c1:00.0")]
    #[case("0000:21:1f.7")]
    #[case("10000:e1:00.0")]
    fn accepts(#[case] text: &str) {
        assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("c1:00.0")]
    #[case("0000:C1:00.0")]
    #[case("0000:c1:20.0")]
    #[case("0000:c1:00.8")]
    #[case("0000:c1:00.0\n")]
    #[case("00000:c1:00.0")]
    #[case("0000:+1:00.0")]
    #[case("0000:c1:0.0")]
    #[case("0000:c1:00:0.0")]
    fn rejects(#[case] text: &str) {
        assert_eq!(text.parse::<PciAddress>(), Err(PciAddressError));
    }

    #[test]
    fn any_input_is_an_address_or_refused() {
        cxi_any_input::text(&["0000:c1:00.0", "0000:21:1f.7", "10000:e1:00.0"], &|text| {
            let address = text.parse::<PciAddress>();
            assert!(address.is_err() || address.is_ok_and(|address| address.to_string() == text));
            address.is_ok().into()
        });
    }
}
