//! The kernel modules that may be removed: those of the CXI stack and no others.

use std::ffi::CStr;
use std::fmt;
use std::str::FromStr;

/// A kernel module of the CXI stack. The names are those of `/proc/modules` (with `_`; the files have `-`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModuleName {
    /// CXI provider of kernel fabric.
    KfiCxi,
    /// Kernel fabric.
    Kfabric,
    /// Device nodes for user space.
    CxiUser,
    /// Network interfaces.
    CxiEth,
    /// The core driver.
    CxiSs1,
    /// Link library of Cassini 2.
    CxiSl,
    /// Link library of Cassini 1.
    CxiSbl,
}

/// The name is not on the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a module of the CXI stack; it has {}", ModuleName::ALL.map(ModuleName::as_str).join(", "))]
pub struct UnknownModule {
    name: String,
}

impl ModuleName {
    /// All of them, users before what they use.
    pub const ALL: [Self; 7] =
        [Self::KfiCxi, Self::Kfabric, Self::CxiUser, Self::CxiEth, Self::CxiSs1, Self::CxiSl, Self::CxiSbl];

    /// The name as the kernel takes it.
    pub fn as_c_str(self) -> &'static CStr {
        match self {
            Self::KfiCxi => c"kfi_cxi",
            Self::Kfabric => c"kfabric",
            Self::CxiUser => c"cxi_user",
            Self::CxiEth => c"cxi_eth",
            Self::CxiSs1 => c"cxi_ss1",
            Self::CxiSl => c"cxi_sl",
            Self::CxiSbl => c"cxi_sbl",
        }
    }

    /// The name as text.
    pub fn as_str(self) -> &'static str {
        // Every name above is ASCII.
        self.as_c_str().to_str().unwrap_or_default()
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ModuleName {
    type Err = UnknownModule;

    /// Like `modprobe`, takes `-` for `_`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.replace('-', "_");
        Self::ALL
            .into_iter()
            .find(|module| module.as_str() == name)
            .ok_or_else(|| UnknownModule { name: text.chars().take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_it_prints_and_the_spelling_of_files() {
        for module in ModuleName::ALL {
            assert_eq!(module.to_string().parse(), Ok(module));
            assert_eq!(module.to_string().replace('_', "-").parse(), Ok(module));
            assert!(!module.as_str().is_empty());
        }
    }

    #[test]
    fn rejects_every_other_module() {
        for name in ["", "ext4", "cxi", "cxi_user ", "CXI_USER", "kdreg2", "cxi_user/../ext4"] {
            let error = name.parse::<ModuleName>().unwrap_err();
            assert!(error.to_string().contains("it has kfi_cxi, kfabric, cxi_user"), "{error}");
        }
    }

    #[test]
    fn any_input_is_a_module_of_the_stack_or_refused() {
        cxi_any_input::text(&["cxi_ss1", "cxi-user", "kfi_cxi", "kfabric"], &|text| {
            let module = text.parse::<ModuleName>();
            if let Ok(module) = &module {
                assert_eq!(module.as_str(), text.replace('-', "_"));
            }
            module.is_ok().into()
        });
    }
}
