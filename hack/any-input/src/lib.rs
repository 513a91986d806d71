//! Inputs for parsers: files as they should be with some damage, and bytes of no meaning, 100,000 for each parser.
//!
//! A test calls [`bytes`] or [`text`] with files that the parser takes and with what must hold of its answers. It is a crate
//! of its own so that it is optimised in every build: making inputs would take longer than reading them.

mod damage;

use std::cell::Cell;
use std::fmt;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use damage::{Edit, edit};

/// How many inputs a parser gets.
pub const CASES: u32 = 100_000;

/// At least one of so many inputs has to be taken, and one be refused; else the inputs say little about the parser.
const ONE_OF: u32 = 200;

/// The longest input without meaning, in bytes.
const LONGEST: usize = 128;

/// The most damage that is done to a file.
const EDITS: usize = 4;

/// What a parser made of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took it, or found something in it.
    Taken,
    /// It refused it, or found nothing.
    Refused,
}

impl From<bool> for Answer {
    fn from(taken: bool) -> Self {
        if taken { Self::Taken } else { Self::Refused }
    }
}

/// An input, shown as it would be written in a test.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// Gives `parser` each of `files`, all of which it must take, and [`CASES`] inputs that are these files with some damage or
/// bytes without any meaning. What must hold of its answers `parser` asserts itself.
///
/// # Panics
/// If `parser` does, with the smallest input for which it does; if it refuses one of `files`; if it takes or refuses hardly
/// any of the inputs.
#[expect(clippy::panic, reason = "it is a test that fails")]
pub fn bytes(files: &[&[u8]], parser: &dyn Fn(&[u8]) -> Answer) {
    assert!(!files.is_empty(), "a parser takes something");
    for file in files {
        assert_eq!(parser(file), Answer::Taken, "the parser refuses b\"{}\"", file.escape_ascii());
    }
    let taken = Cell::new(0);
    let test = |Input(bytes): Input| {
        if parser(&bytes) == Answer::Taken {
            taken.set(taken.get() + 1);
        }
        Ok(())
    };
    // Each failure is told at once; a file beside the sources would be a file to be committed.
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    match TestRunner::new(config).run(&inputs(files), test) {
        Ok(()) => {}
        Err(TestError::Fail(reason, input)) => panic!("{reason}; the smallest input for it is {input:?}"),
        Err(error) => panic!("{error}"),
    }
    let taken = taken.get();
    assert!((CASES / ONE_OF..=CASES - CASES / ONE_OF).contains(&taken), "of {CASES} inputs the parser takes {taken}");
}

/// [`bytes`] for parsers of text: what is not UTF-8 any more becomes replacement characters.
///
/// # Panics
/// See [`bytes`].
pub fn text(files: &[&str], parser: &dyn Fn(&str) -> Answer) {
    let files: Vec<&[u8]> = files.iter().map(|file| file.as_bytes()).collect();
    bytes(&files, &|bytes| parser(&String::from_utf8_lossy(bytes)));
}

fn inputs(files: &[&[u8]]) -> impl Strategy<Value = Input> + use<> {
    let files: Vec<Vec<u8>> = files.iter().map(|file| file.to_vec()).collect();
    let all = files.clone();
    let damaged = (proptest::sample::select(files), proptest::collection::vec(edit(), 0..=EDITS));
    let damaged = damaged.prop_map(move |(mut file, edits): (Vec<u8>, Vec<Edit>)| {
        for edit in &edits {
            edit.apply(&mut file, &all);
        }
        Input(file)
    });
    let meaningless = proptest::collection::vec(any::<u8>(), 0..=LONGEST).prop_map(Input);
    prop_oneof![3 => damaged, 1 => meaningless]
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn why(test: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let panic = catch_unwind(test).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn a_parser_that_keeps_its_word_passes_and_gets_all_inputs() {
        let asked = Cell::new(0);
        text(&["0x1a", "7"], &|text| {
            asked.set(asked.get() + 1);
            (text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)).transpose().is_ok()).into()
        });
        assert_eq!(asked.get(), CASES + 2);
    }

    #[test]
    fn the_smallest_input_is_named() {
        let said = why(|| {
            bytes(&[b"12"], &|bytes| {
                assert!(!bytes.contains(&b'-'), "a sign");
                true.into()
            });
        });
        assert!(said.contains("a sign") && said.contains("b\"-"), "{said}");
    }

    #[test]
    fn a_parser_that_takes_all_or_nothing_is_no_test() {
        let said = why(|| bytes(&[b"a"], &|_| Answer::Taken));
        assert_eq!(said, "of 100000 inputs the parser takes 100000");
        let said = why(|| bytes(&[b"a"], &|_| Answer::Refused));
        assert!(said.contains("the parser refuses b\"a\""), "{said}");
    }
}
