//! `Module.symvers`: the symbols that a kernel exports, with their versions.

use std::collections::BTreeMap;

/// Version (CRC) by symbol.
pub type Symbols = BTreeMap<String, u32>;

/// Reads the text: lines of `0x<crc>\t<symbol>\t<where>\t<how>`. Other lines are not such symbols.
pub fn parse(text: &str) -> Symbols {
    let symbol = |line: &str| {
        let mut columns = line.split_whitespace();
        let crc = u32::from_str_radix(columns.next()?.strip_prefix("0x")?, 16).ok()?;
        Some((columns.next()?.to_owned(), crc))
    };
    text.lines().filter_map(symbol).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_symbols() {
        let text = "0x9a1dfd65\tstrpbrk\tvmlinux\tEXPORT_SYMBOL\t\n0x00000001 x y\n\nnonsense\n0xzz a\n";
        assert_eq!(parse(text), [("strpbrk".into(), 0x9a1d_fd65), ("x".into(), 1)].into());
    }
}
