//! A kernel module's file: what it is for, what it is, what it needs and what it offers.

use std::collections::BTreeMap;

use object::{
    Object, ObjectSection, ObjectSymbol, SymbolSection,
    read::elf::{ElfFile32, ElfFile64},
};

use crate::symvers::Symbols;

/// What a module's file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleFile {
    /// The kernel and its settings, from `.modinfo`.
    pub vermagic: String,
    /// GNU build-id, lower-case hexadecimal.
    pub build_id: String,
    /// Symbols that it needs, with the versions that it was built against.
    pub imports: Symbols,
    /// Symbols that it offers, with their versions.
    pub exports: Symbols,
    /// Modules that it needs.
    pub depends: Vec<String>,
    /// Firmware that it says it asks for.
    pub firmware: Vec<String>,
    /// Length of the file without an appended signature; the whole when there is none.
    pub unsigned_length: usize,
    /// Whether a signature is appended.
    pub signed: bool,
}

/// Why a file is not a kernel module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAModule {
    /// No ELF file.
    #[error("it is not an ELF file: {0}")]
    Elf(String),
    /// No `.modinfo`.
    #[error("it has no .modinfo section, so it is not a kernel module")]
    Modinfo,
    /// No build-id.
    #[error("it has no GNU build-id")]
    BuildId,
}

/// What ends a signed module (kernel `include/linux/module_signature.h`).
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// Length of `struct module_signature`, which is before that line; its last four bytes are the signature's length.
const DESCRIPTION: usize = 12;

/// Bytes of `struct modversion_info`: the version as a long, then the name (kernel `include/linux/module.h`).
const VERSION_ENTRY: usize = 64;

/// Reads a module.
///
/// # Errors
/// When it is not one.
pub fn parse(data: &[u8]) -> Result<ModuleFile, NotAModule> {
    let unsigned_length = without_signature(data);
    let file = &data[..unsigned_length];
    let mut module = match file.get(4) {
        Some(1) => read(&ElfFile32::<object::Endianness>::parse(file).map_err(broken)?, 4),
        _ => read(&ElfFile64::<object::Endianness>::parse(file).map_err(broken)?, 8),
    }?;
    module.unsigned_length = unsigned_length;
    module.signed = unsigned_length < data.len();
    Ok(module)
}

fn broken(error: object::read::Error) -> NotAModule {
    NotAModule::Elf(error.to_string())
}

fn without_signature(data: &[u8]) -> usize {
    let length = || {
        let rest = data.strip_suffix(SIGNED)?;
        let end = rest.len().checked_sub(DESCRIPTION)?;
        let length: [u8; 4] = rest.last_chunk::<4>().copied()?;
        end.checked_sub(usize::try_from(u32::from_be_bytes(length)).ok()?)
    };
    length().unwrap_or(data.len())
}

fn read<'data>(file: &impl Object<'data>, long: usize) -> Result<ModuleFile, NotAModule> {
    let section = |name: &str| file.section_by_name(name).and_then(|section| section.uncompressed_data().ok());
    let modinfo = section(".modinfo").ok_or(NotAModule::Modinfo)?;
    let mut module = ModuleFile::default();
    for (key, value) in words(&modinfo) {
        match key {
            "vermagic" => value.trim_end().clone_into(&mut module.vermagic),
            "depends" => module.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
            "firmware" => module.firmware.push(value.to_owned()),
            _ => {}
        }
    }
    let id = file.build_id().map_err(broken)?.filter(|id| !id.is_empty()).ok_or(NotAModule::BuildId)?;
    module.build_id = crate::tree::hex(id);
    if let Some(versions) = section("__versions") {
        module.imports = versions.chunks_exact(VERSION_ENTRY).filter_map(|entry| version(file, entry, long)).collect();
    }
    module.imports.extend(extended(file, section("__version_ext_crcs"), section("__version_ext_names")));
    module.exports = exports(file);
    Ok(module)
}

/// `key=value` strings, each ended by a zero byte.
fn words(modinfo: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    modinfo.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()?.split_once('='))
}

fn version<'data>(file: &impl Object<'data>, entry: &[u8], long: usize) -> Option<(String, u32)> {
    let (crc, name) = entry.split_at_checked(long)?;
    let name = name.split(|byte| *byte == 0).next()?;
    // A CRC has 32 bits also where a long has 64.
    let crc = if file.is_little_endian() {
        crc.first_chunk::<4>().copied().map(u32::from_le_bytes)
    } else {
        crc.last_chunk::<4>().copied().map(u32::from_be_bytes)
    };
    Some((String::from_utf8_lossy(name).into_owned(), crc?))
}

/// The newer form, for names that are longer (kernel 6.14 and newer).
fn extended<'data>(
    file: &impl Object<'data>,
    crcs: Option<std::borrow::Cow<'data, [u8]>>,
    names: Option<std::borrow::Cow<'data, [u8]>>,
) -> Symbols {
    let (Some(crcs), Some(names)) = (crcs, names) else { return BTreeMap::new() };
    let number = |bytes: &[u8]| {
        let bytes = bytes.first_chunk::<4>().copied().unwrap_or_default();
        if file.is_little_endian() { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    };
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).zip(crcs.chunks_exact(4).map(number)).collect()
}

/// The version of an exported symbol `x` is what the symbol `__crc_x` stands for: a number, or since 5.19 a place of four
/// bytes in a section of its own.
fn exports<'data>(file: &impl Object<'data>) -> Symbols {
    let crc = |symbol: &dyn Fn() -> (SymbolSection, u64)| -> Option<u32> {
        match symbol() {
            (SymbolSection::Absolute, value) => u32::try_from(value).ok(),
            (SymbolSection::Section(index), offset) => {
                let data = file.section_by_index(index).ok()?.uncompressed_data().ok()?;
                let bytes = data.get(usize::try_from(offset).ok()?..)?.first_chunk::<4>().copied()?;
                Some(if file.is_little_endian() { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
            }
            _ => None,
        }
    };
    file.symbols()
        .filter_map(|symbol| {
            let name = symbol.name().ok()?.strip_prefix("__crc_")?.to_owned();
            Some((name, crc(&|| (symbol.section(), symbol.address()))?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_told() {
        assert!(matches!(parse(b""), Err(NotAModule::Elf(_))));
        assert!(matches!(parse(b"hello, this is not an ELF file at all"), Err(NotAModule::Elf(_))));
        // A program is an ELF file too.
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(parse(&program), Err(NotAModule::Modinfo));
    }

    #[test]
    fn a_signature_is_not_part_of_the_module() {
        let mut file = vec![7; 100];
        assert_eq!(without_signature(&file), 100);
        file.extend([1; 50]);
        file.extend([0; 8]);
        file.extend(50_u32.to_be_bytes());
        file.extend(SIGNED);
        assert_eq!(without_signature(&file), 100);
        // One that claims to be longer than the file is none.
        let mut nonsense = vec![0xff; 20];
        nonsense.extend(SIGNED);
        assert_eq!(without_signature(&nonsense), nonsense.len());
    }
}
