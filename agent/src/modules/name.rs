//! The kernel modules that the agent loads and removes: those of the CXI stack and no others.

use cxi_api::KernelModule;

/// What may be loaded and removed, users before what they use. Other software uses `kdreg2` too, so it stays.
pub const MANAGED: [KernelModule; 7] = [
    KernelModule::KfiCxi,
    KernelModule::Kfabric,
    KernelModule::CxiUser,
    KernelModule::CxiEth,
    KernelModule::CxiSs1,
    KernelModule::CxiSl,
    KernelModule::CxiSbl,
];

/// The name is not on the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a module of the CXI stack; it has {}", MANAGED.map(KernelModule::name).join(", "))]
pub struct UnknownModule {
    name: String,
}

/// The module of [`MANAGED`] that `text` names. Like `modprobe`, takes `-` for `_`.
///
/// # Errors
/// When it is none of them.
pub fn parse(text: &str) -> Result<KernelModule, UnknownModule> {
    let name = text.replace('-', "_");
    MANAGED
        .into_iter()
        .find(|module| module.name() == name)
        .ok_or_else(|| UnknownModule { name: text.chars().take(64).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_it_prints_and_the_spelling_of_files() {
        for module in MANAGED {
            assert_eq!(parse(&module.to_string()), Ok(module));
            assert_eq!(parse(&module.to_string().replace('_', "-")), Ok(module));
        }
    }

    #[test]
    fn everything_but_the_monitor_of_registrations_is_managed_in_the_order_of_users() {
        let mut all = KernelModule::ALL.to_vec();
        all.sort();
        all.retain(|module| *module != KernelModule::Kdreg2);
        assert_eq!(all, MANAGED);
    }

    #[test]
    fn rejects_every_other_module() {
        for name in ["", "ext4", "cxi", "cxi_user ", "CXI_USER", "kdreg2", "cxi_user/../ext4"] {
            let error = parse(name).unwrap_err();
            assert!(error.to_string().contains("it has kfi_cxi, kfabric, cxi_user"), "{error}");
        }
    }

    #[test]
    fn any_input_is_a_module_of_the_stack_or_refused() {
        cxi_any_input::text(&["cxi_ss1", "cxi-user", "kfi_cxi", "kfabric"], &|text| {
            let module = parse(text);
            if let Ok(module) = &module {
                assert_eq!(module.name(), text.replace('-', "_"));
            }
            module.is_ok().into()
        });
    }
}
