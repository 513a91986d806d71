//! Live speed of a link. Three files say it, each in its own words.
//!
//! `properties/speed` is not one of them: it holds the configured speed, 200 Gb/s whatever the link runs at.

use crate::{
    AttributeErrorKind,
    attribute::{decimal, text},
};

/// What the releases of the link libraries print instead of a speed while there is none.
const NO_SPEED: [&str; 11] =
    ["na", "unknown", "unrecognized", "invalid", "error", "io-error", "no-link", "no_link", "not up", "none", "--"];

/// `port/speed` of a Cassini 1 (`BS_200G`, from `sbl_misc.c`) and `port/0/link/speed` of a Cassini 2 (`ck400G`, from
/// `sl_lgrp.c`; older releases print `CK_400G`), in Gb/s. `None` while the link has no speed.
pub(crate) fn port(bytes: &[u8]) -> Result<Option<u32>, AttributeErrorKind> {
    let text = text(bytes)?;
    let word = text.to_ascii_lowercase();
    if NO_SPEED.contains(&word.as_str()) {
        return Ok(None);
    }
    // Two letters name lanes and modulation, the number is the sum of the lanes.
    let speed = || {
        let (mode, rest) = word.split_at_checked(2)?;
        let number = rest
            .strip_prefix('_')
            .unwrap_or(rest)
            .strip_suffix('g')
            .filter(|_| mode.bytes().all(|byte| byte.is_ascii_lowercase()))?;
        decimal(number).filter(|speed| *speed > 0)
    };
    speed().map(Some).ok_or_else(|| AttributeErrorKind::invalid(text, "a speed of the form BS_200G or ck400G"))
}

/// `speed` of a network interface, in Gb/s. The kernel prints Mb/s, and `-1` while the speed is not known; a driver whose link has
/// never run may say 0, which is no speed either.
pub(crate) fn netdev(bytes: &[u8]) -> Result<Option<u32>, AttributeErrorKind> {
    let text = text(bytes)?;
    if matches!(text, "-1" | "4294967295" | "0") {
        return Ok(None);
    }
    match decimal::<u32>(text) {
        Some(megabits) if megabits > 0 && megabits % 1000 == 0 => Ok(Some(megabits / 1000)),
        _ => Err(AttributeErrorKind::invalid(text, "a number of whole Gb/s in Mb/s, or -1")),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("BS_200G", Some(200))]
    #[case("ck400G\n", Some(400))]
    #[case("CK_400G", Some(400))]
    #[case("cd50G", Some(50))]
    #[case("NA", None)]
    #[case("unknown\n", None)]
    #[case("no-link", None)]
    #[case("no_link", None)]
    #[case("not up\n", None)]
    #[case("unrecognized\n", None)]
    #[case("INVALID", None)]
    #[case("--", None)]
    fn accepts_port(#[case] text: &str, #[case] speed: Option<u32>) {
        assert_eq!(port(text.as_bytes()), Ok(speed));
    }

    #[rstest]
    #[case("200000")]
    #[case("BS_G")]
    #[case("BS_0G")]
    #[case("BS__200G")]
    #[case("B_S200G")]
    #[case("BS_200")]
    #[case("BS_+200G")]
    #[case("é200G")]
    fn rejects_port(#[case] text: &str) {
        assert!(matches!(port(text.as_bytes()), Err(AttributeErrorKind::Invalid { .. })));
    }

    #[rstest]
    #[case("200000\n", Ok(Some(200)))]
    #[case("-1\n", Ok(None))]
    #[case("0\n", Ok(None))]
    #[case("", Err(AttributeErrorKind::Empty))]
    fn interface(#[case] text: &str, #[case] expected: Result<Option<u32>, AttributeErrorKind>) {
        assert_eq!(netdev(text.as_bytes()), expected);
    }

    #[test]
    fn rejects_interface_speeds_that_are_no_speeds() {
        for text in ["2500", "-2", "fast", "1e9", "00"] {
            assert!(netdev(text.as_bytes()).is_err(), "{text}");
        }
    }

    /// All digits of a text as one number.
    fn digits(bytes: &[u8]) -> Option<u64> {
        String::from_utf8_lossy(bytes).chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()
    }

    #[test]
    fn any_input_is_the_speed_of_a_port_or_refused() {
        cxi_any_input::bytes(&[b"BS_200G\n", b"ck400G", b"CK_400G\n", b"no-link\n", b"not up\n", b"NA"], &|bytes| {
            let speed = port(bytes);
            if let Ok(speed) = &speed {
                assert_eq!(digits(bytes), speed.map(u64::from));
            }
            speed.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_the_speed_of_an_interface_or_refused() {
        cxi_any_input::bytes(&[b"200000\n", b"-1\n", b"4294967295", b"400000", b"0\n"], &|bytes| {
            let speed = netdev(bytes);
            if let Ok(Some(speed)) = &speed {
                assert_eq!(digits(bytes), Some(u64::from(*speed) * 1000));
            }
            speed.is_ok().into()
        });
    }
}
