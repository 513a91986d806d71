//! The kernel modules of the CXI stack: the one list, with what each module is for and what it needs.
//!
//! Source: the module dependencies of HPE's driver (`cxi_user` and `cxi_eth` use `cxi_ss1`, which uses `cxi_sl` and `cxi_sbl`)
//! and of its kernel fabric packages.

use std::fmt;

/// A kernel module of the stack. Users are less than what they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelModule {
    /// Monitor of memory registrations.
    Kdreg2,
    /// CXI provider of kernel fabric.
    KfiCxi,
    /// Kernel fabric.
    Kfabric,
    /// Device nodes for programs.
    CxiUser,
    /// Network interfaces.
    CxiEth,
    /// The core driver, which binds the NICs.
    CxiSs1,
    /// Link library of Cassini 2.
    CxiSl,
    /// Link library of Cassini 1.
    CxiSbl,
}

impl KernelModule {
    /// All modules that the packages of the stack bring. A module comes after those that it needs.
    pub const ALL: [Self; 8] = [
        Self::CxiSbl,
        Self::CxiSl,
        Self::CxiSs1,
        Self::CxiUser,
        Self::CxiEth,
        Self::Kfabric,
        Self::KfiCxi,
        Self::Kdreg2,
    ];

    /// The driver: what a driver image holds, and what is loaded and unloaded as one. A module comes after those that it needs.
    pub const DRIVER: [Self; 5] = [Self::CxiSbl, Self::CxiSl, Self::CxiSs1, Self::CxiUser, Self::CxiEth];

    /// [`Self::DRIVER`] in the order in which it is unloaded: users before what they use, and first the module that a job holds.
    /// A refused unload then takes nothing away. With [`Self::CxiEth`] first, a job that has `/dev/cxiN` open would keep the
    /// driver and lose the network interface of its NIC.
    pub const UNLOAD: [Self; 5] = [Self::CxiUser, Self::CxiEth, Self::CxiSs1, Self::CxiSl, Self::CxiSbl];

    /// The two modules that pull in the others of [`Self::DRIVER`] as their dependencies.
    pub const LOAD: [Self; 2] = [Self::CxiUser, Self::CxiEth];

    /// Binds the NICs: without it there is none.
    pub const NICS: Self = Self::CxiSs1;

    /// Makes the character devices: every open file of one holds a reference to it.
    pub const CHARACTER_DEVICES: Self = Self::CxiUser;

    /// The name in `/proc/modules` and in `/sys/module`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kdreg2 => "kdreg2",
            Self::KfiCxi => "kfi_cxi",
            Self::Kfabric => "kfabric",
            Self::CxiUser => "cxi_user",
            Self::CxiEth => "cxi_eth",
            Self::CxiSs1 => "cxi_ss1",
            Self::CxiSl => "cxi_sl",
            Self::CxiSbl => "cxi_sbl",
        }
    }

    /// The names of several, see [`Self::name`].
    pub const fn names<const N: usize>(modules: [Self; N]) -> [&'static str; N] {
        let mut names = [""; N];
        let mut place = 0;
        while place < N {
            names[place] = modules[place].name();
            place += 1;
        }
        names
    }

    /// The name of its file without `.ko`. The kernel takes `-` for `_`.
    pub const fn file_stem(self) -> &'static str {
        match self {
            Self::CxiUser => "cxi-user",
            Self::CxiEth => "cxi-eth",
            Self::CxiSs1 => "cxi-ss1",
            Self::CxiSl => "cxi-sl",
            Self::CxiSbl => "cxi-sbl",
            Self::Kdreg2 | Self::KfiCxi | Self::Kfabric => self.name(),
        }
    }

    /// The modules that it uses itself.
    pub const fn needs(self) -> &'static [Self] {
        match self {
            Self::CxiSbl | Self::Kfabric | Self::Kdreg2 => &[],
            Self::CxiSl => &[Self::CxiSbl],
            Self::CxiSs1 => &[Self::CxiSbl, Self::CxiSl],
            Self::CxiUser | Self::CxiEth => &[Self::CxiSs1],
            Self::KfiCxi => &[Self::CxiSs1, Self::Kfabric],
        }
    }
}

impl fmt::Display for KernelModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_needs_and_goes_before_it() {
        let at = |order: &[KernelModule], module| order.iter().position(|other| *other == module).unwrap();
        for module in KernelModule::ALL {
            for needed in module.needs() {
                assert!(at(&KernelModule::ALL, *needed) < at(&KernelModule::ALL, module), "{module} needs {needed}");
                assert!(module < *needed, "{module} uses {needed}");
            }
        }
        for module in KernelModule::DRIVER {
            for needed in module.needs() {
                assert!(
                    at(&KernelModule::UNLOAD, module) < at(&KernelModule::UNLOAD, *needed),
                    "{module} uses {needed}"
                );
            }
        }
        assert_eq!(KernelModule::UNLOAD[0], KernelModule::CHARACTER_DEVICES);
    }

    #[test]
    fn what_is_loaded_pulls_in_the_driver() {
        let mut pulled: Vec<KernelModule> = KernelModule::LOAD.to_vec();
        for place in 0.. {
            let Some(module) = pulled.get(place) else { break };
            pulled.extend(module.needs());
        }
        assert!(KernelModule::DRIVER.iter().all(|module| pulled.contains(module)), "{pulled:?}");
        assert!(pulled.iter().all(|module| KernelModule::DRIVER.contains(module)), "{pulled:?}");
    }

    #[test]
    fn a_file_is_named_like_its_module() {
        for module in KernelModule::ALL {
            assert_eq!(module.file_stem().replace('-', "_"), module.name());
        }
    }
}
