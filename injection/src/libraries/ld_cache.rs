//! The dynamic linker's cache, `/etc/ld.so.cache`: which library the host's programs get for a name.
//!
//! The layout is glibc's `sysdeps/generic/dl-cache.h`. Before glibc 2.32 the present form follows an older one, which is
//! only a detour to it here.

/// A library of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name by which programs ask for it.
    pub soname: String,
    /// Where it is.
    pub path: String,
}

/// The bytes are not a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    #[error("it does not begin as a linker's cache does")]
    Magic,
    #[error("it is cut off or damaged")]
    Damaged,
}

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Magic and its padding, then the number of entries.
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
/// Magic, number of entries, length of the strings, flags, extensions.
const HEADER: usize = 48;
/// Flags, name, path, version of the system, hardware.
const ENTRY: usize = 24;

/// The libraries of a cache, in its order. Those whose name or path is not text are left out.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, CacheError> {
    let cache = if bytes.starts_with(OLD_MAGIC) {
        let entries = number(bytes, OLD_HEADER - 4)?.checked_mul(OLD_ENTRY).ok_or(CacheError::Damaged)?;
        let end = entries.checked_add(OLD_HEADER).and_then(|end| end.checked_next_multiple_of(8));
        bytes.get(end.ok_or(CacheError::Damaged)?..).ok_or(CacheError::Damaged)?
    } else {
        bytes
    };
    if !cache.starts_with(MAGIC) {
        return Err(CacheError::Magic);
    }
    let length = number(cache, MAGIC.len())?.checked_mul(ENTRY).and_then(|length| length.checked_add(HEADER));
    let table = length.and_then(|end| cache.get(HEADER..end)).ok_or(CacheError::Damaged)?;
    let mut entries = Vec::new();
    for entry in table.chunks_exact(ENTRY) {
        // Offsets count from the beginning of this form.
        let text = |at| number(entry, at).and_then(|offset| string(cache, offset));
        if let (Some(soname), Some(path)) = (text(4)?, text(8)?) {
            entries.push(Entry { soname: soname.into(), path: path.into() });
        }
    }
    Ok(entries)
}

/// A number of 32 bits in the machine's order.
fn number(bytes: &[u8], at: usize) -> Result<usize, CacheError> {
    let number = at.checked_add(4).and_then(|end| bytes.get(at..end)).and_then(|bytes| bytes.try_into().ok());
    number.and_then(|bytes| u32::from_ne_bytes(bytes).try_into().ok()).ok_or(CacheError::Damaged)
}

/// The text at `offset`, which a zero ends; `None` when it is not UTF-8.
fn string(bytes: &[u8], offset: usize) -> Result<Option<&str>, CacheError> {
    let rest = bytes.get(offset..).ok_or(CacheError::Damaged)?;
    let end = rest.iter().position(|byte| *byte == 0).ok_or(CacheError::Damaged)?;
    Ok(std::str::from_utf8(rest.get(..end).unwrap_or_default()).ok())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A cache with these libraries.
    pub(in super::super) fn cache(libraries: &[(&str, &str)]) -> Vec<u8> {
        let word = |number: usize| u32::try_from(number).unwrap().to_ne_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(word(libraries.len()));
        bytes.resize(HEADER, 0);
        let mut strings = Vec::new();
        let start = HEADER + libraries.len() * ENTRY;
        for (soname, path) in libraries {
            bytes.extend(word(0x303));
            for text in [soname, path] {
                bytes.extend(word(start + strings.len()));
                strings.extend(text.bytes().chain([0]));
            }
            bytes.extend([0; 12]);
        }
        bytes.extend(strings);
        bytes
    }

    fn entries(libraries: &[(&str, &str)]) -> Vec<Entry> {
        libraries.iter().map(|(soname, path)| Entry { soname: (*soname).into(), path: (*path).into() }).collect()
    }

    const LIBRARIES: [(&str, &str); 2] = [("libcxi.so.1", "/usr/lib64/libcxi.so.1"), ("libm.so.6", "/lib64/libm.so.6")];

    #[test]
    fn reads_both_forms() {
        assert_eq!(parse(&cache(&LIBRARIES)).unwrap(), entries(&LIBRARIES));
        for old_entries in [0, 1, 3] {
            let mut bytes = OLD_MAGIC.to_vec();
            bytes.push(0);
            bytes.extend(u32::try_from(old_entries).unwrap().to_ne_bytes());
            bytes.resize((OLD_HEADER + old_entries * OLD_ENTRY).next_multiple_of(8), 0xff);
            bytes.extend(cache(&LIBRARIES));
            assert_eq!(parse(&bytes).unwrap(), entries(&LIBRARIES));
        }
    }

    #[test]
    fn reads_the_cache_of_this_machine() {
        let bytes = std::fs::read("/etc/ld.so.cache").unwrap();
        let entries = parse(&bytes).unwrap();
        let libc = entries.iter().find(|entry| entry.soname == "libc.so.6").unwrap();
        assert!(std::path::Path::new(&libc.path).exists(), "{libc:?}");
    }

    #[test]
    fn rejects() {
        assert_eq!(parse(b""), Err(CacheError::Magic));
        assert_eq!(parse(b"ld.so-1.7.0\0\xff\xff\xff\xff"), Err(CacheError::Damaged));
        let whole = cache(&LIBRARIES);
        for length in MAGIC.len()..whole.len() {
            assert_eq!(parse(&whole[..length]), Err(CacheError::Damaged), "{length}");
        }
    }

    #[test]
    fn any_input_has_libraries_that_are_in_it_or_is_refused() {
        let new = cache(&LIBRARIES);
        let mut old = OLD_MAGIC.to_vec();
        old.push(0);
        old.extend(1_u32.to_ne_bytes());
        old.resize((OLD_HEADER + OLD_ENTRY).next_multiple_of(8), 0);
        old.extend(&new);
        cxi_any_input::bytes(&[&new, &old], &|bytes| {
            let libraries = parse(bytes);
            for Entry { soname, path } in libraries.iter().flatten() {
                for text in [soname, path] {
                    let ended = |part: &[u8]| part.strip_suffix(&[0]) == Some(text.as_bytes());
                    assert!(bytes.windows(text.len() + 1).any(ended), "{text:?}");
                }
            }
            libraries.is_ok().into()
        });
    }
}
