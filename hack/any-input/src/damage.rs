//! What happens to files: bytes change, parts are lost, repeated or come from another file, numbers grow beyond their type.

use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::Index;

/// What parsers like to get wrong: separators, signs, the edges of numbers, zeros, text that is none.
const WORDS: [&[u8]; 30] = [
    b"\0",
    b"\n",
    b" ",
    b"\t",
    b"-",
    b"+",
    b":",
    b",",
    b".",
    b"@",
    b"=",
    b"/",
    b"..",
    b"\"",
    b"\\",
    b"%",
    b"0x",
    b"-1",
    b"+1",
    b"255",
    b"4294967295",
    b"4294967296",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999999",
    "é".as_bytes(),
    "\u{202e}".as_bytes(),
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
];

/// The longest part that is lost or repeated at once, in bytes.
const PART: usize = 32;

/// One change of a file. Places are parts of its length, since it may have changed before.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// A byte is another one.
    Byte(Index, u8),
    /// A byte has another bit.
    Bit(Index, u8),
    /// A word comes in.
    Insert(Index, &'static [u8]),
    /// A word takes the place of what was there.
    Overwrite(Index, &'static [u8]),
    /// Some bytes are lost.
    Remove(Index, usize),
    /// Some bytes come twice.
    Repeat(Index, usize),
    /// It ends there.
    Cut(Index),
    /// Some bytes of a file come in.
    Splice(Index, Index, Index, usize),
}

/// Any change.
pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    let word = || proptest::sample::select(&WORDS[..]);
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        (index(), 0..8_u8).prop_map(|(at, bit)| Edit::Bit(at, bit)),
        (index(), word()).prop_map(|(at, word)| Edit::Insert(at, word)),
        (index(), word()).prop_map(|(at, word)| Edit::Overwrite(at, word)),
        (index(), 1..=PART).prop_map(|(at, length)| Edit::Remove(at, length)),
        (index(), 1..=PART).prop_map(|(at, length)| Edit::Repeat(at, length)),
        index().prop_map(Edit::Cut),
        (index(), index(), index(), 1..=PART).prop_map(|(at, file, from, length)| Edit::Splice(at, file, from, length)),
    ]
}

impl Edit {
    /// Does this to `file`; `files` are all there are.
    pub(crate) fn apply(&self, file: &mut Vec<u8>, files: &[Vec<u8>]) {
        match self {
            Self::Byte(at, new) => change(file, *at, |_| *new),
            Self::Bit(at, bit) => change(file, *at, |old| old ^ (1 << bit)),
            Self::Insert(at, word) => insert(file, place(*at, file.len()), word),
            Self::Overwrite(at, word) => {
                let part = part(place(*at, file.len()), word.len(), file.len());
                file.splice(part, word.iter().copied());
            }
            Self::Remove(at, length) => drop(file.drain(part(place(*at, file.len()), *length, file.len()))),
            Self::Repeat(at, length) => {
                let part = part(place(*at, file.len()), *length, file.len());
                let copy = file[part.clone()].to_vec();
                insert(file, part.end, &copy);
            }
            Self::Cut(at) => file.truncate(place(*at, file.len())),
            Self::Splice(at, other, from, length) => {
                let other = &files[other.index(files.len())];
                let part = part(place(*from, other.len()), *length, other.len());
                insert(file, place(*at, file.len()), &other[part]);
            }
        }
    }
}

/// Makes another byte of that at a place, unless it is the end.
fn change(file: &mut [u8], at: Index, new: impl Fn(u8) -> u8) {
    let at = place(at, file.len());
    if let Some(byte) = file.get_mut(at) {
        *byte = new(*byte);
    }
}

/// A place in a file, its end included.
fn place(index: Index, length: usize) -> usize {
    index.index(length + 1)
}

/// At most `length` bytes from `at` on.
fn part(at: usize, length: usize, end: usize) -> Range<usize> {
    at..at.saturating_add(length).min(end)
}

fn insert(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    file.splice(at..at, bytes.iter().copied());
}
