//! Which modules the kernel has, from `/proc/modules`.

use std::str::FromStr;

use crate::{AttributeError, AttributeErrorKind, Root, attribute};

/// Longest list of modules that is read, in bytes: some 10,000 modules.
const MAX_LIST_BYTES: usize = 1 << 20;

/// One line of `/proc/modules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedModule {
    /// Name.
    pub name: String,
    /// How often it is in use, by modules and by everything else.
    pub references: u32,
    /// Modules that use it.
    pub holders: Vec<String>,
    /// Whether it can be unloaded at all.
    pub permanent: bool,
    /// What the kernel is doing with it.
    pub state: ModuleState,
}

/// What the kernel is doing with a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleState {
    /// It is loaded.
    Live,
    /// It is being loaded.
    Loading,
    /// It is being unloaded.
    Unloading,
}

/// A line is not of the form that the kernel writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot make sense of the line {0:?} in the list of modules")]
pub struct ModuleLineError(String);

impl LoadedModule {
    /// References that no module accounts for; each module that uses this one is one reference.
    pub fn references_of_others(&self) -> u32 {
        let holders = u32::try_from(self.holders.len()).unwrap_or(u32::MAX);
        self.references.saturating_sub(holders)
    }
}

impl FromStr for LoadedModule {
    type Err = ModuleLineError;

    /// `name size references holders state address [taints]`, see `m_show` in the kernel. Holders are separated and
    /// ended by commas, `-` when there are none; a module without an exit function has the holder `[permanent]`.
    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut fields = line.split_ascii_whitespace();
            let (name, _size) = (fields.next()?, fields.next()?);
            // A kernel that cannot unload modules writes `-` here; the number then fails to parse, as it should.
            let references: i64 = fields.next()?.parse().ok()?;
            let holders: Vec<_> = fields.next()?.split(',').filter(|holder| !matches!(*holder, "" | "-")).collect();
            let state = match fields.next()? {
                "Live" => ModuleState::Live,
                "Loading" => ModuleState::Loading,
                "Unloading" => ModuleState::Unloading,
                _ => return None,
            };
            // The kernel counts one below nothing from the moment at which no user can take the module any more.
            let references = match state {
                ModuleState::Unloading if references < 0 => 0,
                _ => u32::try_from(references).ok()?,
            };
            let permanent = holders.contains(&"[permanent]");
            let holders = holders.into_iter().filter(|holder| *holder != "[permanent]").map(str::to_owned);
            Some(Self { name: name.to_owned(), references, holders: holders.collect(), permanent, state })
        };
        parse().ok_or_else(|| ModuleLineError(line.chars().take(120).collect()))
    }
}

/// All modules in the text of `/proc/modules`.
///
/// # Errors
/// When a line makes no sense: a list with holes proves nothing.
pub fn parse(text: &str) -> Result<Vec<LoadedModule>, ModuleLineError> {
    text.lines().map(str::parse).collect()
}

/// All modules of the kernel under `root`.
///
/// # Errors
/// When the list cannot be read or a line makes no sense.
pub fn read(root: &Root) -> Result<Vec<LoadedModule>, AttributeError> {
    attribute::read_at_most(&root.proc().join("modules"), MAX_LIST_BYTES, |bytes| {
        let text = std::str::from_utf8(bytes).map_err(|_| AttributeErrorKind::NotText)?;
        parse(text).map_err(|error| AttributeErrorKind::invalid(&error.0, "lines of the form `cxi_ss1 1 0 - Live 0x0`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_kernel_writes() {
        let text = "cxi_user 139264 0 - Live 0x0000000000000000 (OE)\n\
                    cxi_ss1 1089536 2 cxi_user,cxi_eth, Live 0xffffffffc0a00000 (OE)\n\
                    cxi_eth 1 1 - Loading 0x0\n\
                    x 1 0 [permanent], Unloading 0x0\n\
                    nls_utf8 16384 -1 - Unloading 0x0\n";
        let modules = parse(text).unwrap();
        assert_eq!(modules[0].name, "cxi_user");
        assert!(modules[0].holders.is_empty());
        assert_eq!(
            (modules[1].references, modules[1].holders.as_slice()),
            (2, &["cxi_user".into(), "cxi_eth".into()][..])
        );
        assert_eq!(modules[2].state, ModuleState::Loading);
        assert!(modules[3].permanent && modules[3].holders.is_empty());
        assert_eq!((modules[4].references, modules[4].state), (0, ModuleState::Unloading));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn rejects_lines_with_holes() {
        for line in [
            "",
            "cxi_user",
            "cxi_user 1 0 -",
            "cxi_user 1 x - Live 0x0",
            "cxi_user 1 - - Live 0x0",
            "a 1 0 - Alive 0x0",
            "a 1 -1 - Live 0",
            "a 1 -1 - Loading 0",
            "a 1 4294967296 - Unloading 0",
        ] {
            assert!(line.parse::<LoadedModule>().is_err(), "{line:?}");
        }
    }

    #[test]
    fn any_input_is_a_list_of_modules_or_refused() {
        let one = "cxi_user 139264 0 - Live 0x0000000000000000 (OE)\n";
        let four = "cxi_ss1 1089536 2 cxi_user,cxi_eth, Live 0xffffffffc0a00000 (OE)\ncxi_eth 1 1 - Loading 0x0\n\
                     x 1 0 [permanent], Unloading 0x0\nnls_utf8 16384 -1 - Unloading 0x0\n";
        cxi_any_input::text(&[one, four], &|text| {
            let modules = parse(text);
            if let Ok(modules) = &modules {
                let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
                let lines: Vec<_> = text.lines().map(words).collect();
                assert_eq!(lines.len(), modules.len());
                for (line, module) in lines.iter().zip(modules) {
                    assert_eq!(line[0], module.name);
                    let count: i64 = line[2].parse().unwrap();
                    assert_eq!(count.max(0), i64::from(module.references));
                    assert!(count >= 0 || module.state == ModuleState::Unloading);
                    assert!(module.holders.iter().all(|holder| line[3].split(',').any(|other| other == holder)));
                }
            }
            modules.is_ok().into()
        });
    }
}
