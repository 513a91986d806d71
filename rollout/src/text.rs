//! How long a message may be. What is written into the API has a size that does not grow with the cluster, or with what a server, a pod
//! or a tenant says.

use std::borrow::Cow;

/// Longest message in a CXINode, in bytes.
pub const RECORD: usize = 1024;

/// Longest result in the history of a CXINode, in bytes. It has ten.
pub const RESULT: usize = 512;

/// Longest message in a CXIDriver, in bytes. A dozen conditions have one each.
pub const DRIVER: usize = 512;

/// Names in a list, at most.
const NAMED: usize = 5;

/// Up to this, numbers in messages are exact.
const EXACT: usize = 20;

/// What marks a message that was cut.
const CUT: &str = " …";

/// The message in at most `most` bytes, cut between characters and marked where it was cut. Characters that JSON would write as six
/// bytes become spaces.
pub fn cut(message: String, most: usize) -> String {
    if let Cow::Owned(cut) = bounded(&message, most) {
        return cut;
    }
    message
}

/// The same, without a copy where there is nothing to change.
pub fn bounded(message: &str, most: usize) -> Cow<'_, str> {
    // Neither a control character nor the first byte of one of U+0080 to U+009F.
    let harmless = |byte: u8| byte >= b' ' && byte != 0x7f && byte != 0xc2;
    if message.len() <= most && message.bytes().all(harmless) {
        return Cow::Borrowed(message);
    }
    let plain = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { ' ' } else { c };
    if message.len() <= most {
        let clean = message.chars().all(|c| plain(c) == c);
        return if clean { Cow::Borrowed(message) } else { message.chars().map(plain).collect() };
    }
    let mut end = most.saturating_sub(CUT.len());
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].chars().map(plain).chain(CUT.chars()).collect()
}

/// The first names of a list, and how many more there are.
pub fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<&str> = names.by_ref().take(NAMED).collect();
    let more = names.count();
    let list = first.join(", ");
    if more == 0 { list } else { format!("{list} and {} more", about(more)) }
}

/// A number in words that do not change with each node that a large cluster gains or loses: exact while it is small, else its first
/// digit.
pub fn about(number: usize) -> String {
    if number <= EXACT {
        return number.to_string();
    }
    let unit = 10_usize.pow(number.ilog10());
    let floor = number / unit * unit;
    if floor == number { number.to_string() } else { format!("over {floor}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn messages_are_cut_between_characters_and_marked() {
        assert_eq!(bounded("short", 5), "short");
        for most in 10..20 {
            let short = cut("é".repeat(100), most);
            assert!(short.len() <= most && short.len() + 2 >= most && short.ends_with('…'), "{most}: {short}");
        }
    }

    #[test]
    fn what_is_cut_already_stays_as_it_is() {
        let once = cut("x".repeat(2000), RECORD);
        assert_eq!(cut(once.clone(), RECORD), once);
    }

    #[test]
    fn control_characters_cost_no_more_than_others() {
        assert_eq!(bounded("a\u{1}b\nc", 100), "a b\nc");
        assert_eq!(bounded("\u{7f}\u{85}\u{a9}é", 100), "  \u{a9}é");
    }

    #[rstest]
    #[case(20, "20")]
    #[case(21, "over 20")]
    #[case(99, "over 90")]
    #[case(100, "100")]
    #[case(9_876, "over 9000")]
    fn large_numbers_are_rough(#[case] number: usize, #[case] expected: &str) {
        assert_eq!(about(number), expected);
    }

    #[test]
    fn lists_name_five() {
        assert_eq!(some(["a", "b"]), "a, b");
        assert_eq!(some(["a", "b", "c", "d", "e", "f"]), "a, b, c, d, e and 1 more");
        let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        assert_eq!(some(names.iter().map(String::as_str)), "0, 1, 2, 3, 4 and over 900 more");
    }
}
