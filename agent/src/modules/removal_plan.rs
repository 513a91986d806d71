//! Decides whether modules can be removed, and in which order. Pure.

use std::collections::BTreeSet;

use cxi_api::KernelModule;
use cxi_hardware::{LoadedModule, ModuleState, OpenFile};

/// Something that stands in the way; each sentence names the module and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A process uses a device.
    #[error("{0}")]
    OpenFile(OpenFile),
    /// A module that is not to be removed uses this one.
    #[error("module {module} is used by module {holder}, which is not to be removed")]
    UsedByModule {
        /// The module to be removed.
        module: KernelModule,
        /// Its user.
        holder: String,
    },
    /// Something other than a module uses it.
    #[error("module {module} is in use by something other than a module (reference count {count})")]
    Referenced {
        /// The module to be removed.
        module: KernelModule,
        /// References that no module accounts for.
        count: u32,
    },
    /// The kernel is busy with it.
    #[error("module {module} is being {}", if *state == ModuleState::Loading { "loaded" } else { "unloaded" })]
    Changing {
        /// The module to be removed.
        module: KernelModule,
        /// What the kernel is doing.
        state: ModuleState,
    },
    /// It has no exit function, or did not survive its initialisation.
    #[error("module {0} cannot be unloaded by this kernel (permanent); only a reboot removes it")]
    Permanent(KernelModule),
    /// Modules use each other in a circle, which the kernel does not allow.
    #[error("module {0} is part of a circle of modules that use each other")]
    Circle(KernelModule),
}

/// The modules of `wanted` that are loaded, users before what they use.
///
/// # Errors
/// Everything that stands in the way. Nothing should be removed then: half a driver is no better than the leftovers.
pub fn plan(
    loaded: &[LoadedModule],
    wanted: &BTreeSet<KernelModule>,
    open: &[OpenFile],
) -> Result<Vec<KernelModule>, Vec<Obstacle>> {
    let mut rest: Vec<(KernelModule, &LoadedModule)> = wanted
        .iter()
        .filter_map(|name| Some((*name, loaded.iter().find(|module| module.name == name.name())?)))
        .collect();
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let mut obstacles: Vec<_> = open.iter().cloned().map(Obstacle::OpenFile).collect();
    obstacles.extend(rest.iter().flat_map(|(name, module)| obstacles_of(*name, module, wanted)));
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    let mut order: Vec<KernelModule> = Vec::new();
    while !rest.is_empty() {
        let free = rest.iter().position(|(_, module)| {
            module.holders.iter().all(|holder| order.iter().any(|removed| removed.name() == holder))
        });
        match free {
            Some(index) => order.push(rest.remove(index).0),
            None => return Err(rest.into_iter().map(|(name, _)| Obstacle::Circle(name)).collect()),
        }
    }
    Ok(order)
}

fn obstacles_of(name: KernelModule, module: &LoadedModule, wanted: &BTreeSet<KernelModule>) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if module.permanent {
        obstacles.push(Obstacle::Permanent(name));
    }
    if module.state != ModuleState::Live {
        obstacles.push(Obstacle::Changing { module: name, state: module.state });
    }
    let foreign = module.holders.iter().filter(|holder| !wanted.iter().any(|wanted| wanted.name() == *holder));
    obstacles.extend(foreign.map(|holder| Obstacle::UsedByModule { module: name, holder: holder.clone() }));
    let count = module.references_of_others();
    if count > 0 {
        obstacles.push(Obstacle::Referenced { module: name, count });
    }
    obstacles
}

#[cfg(test)]
mod tests {
    use cxi_hardware::{NicName, modules::parse};

    use super::*;

    const STACK: &str = "cxi_sbl 1 1 cxi_ss1, Live 0x0\n\
                         cxi_sl 1 1 cxi_ss1, Live 0x0\n\
                         cxi_ss1 1 3 kfi_cxi,cxi_user,cxi_eth, Live 0x0\n\
                         cxi_eth 1 0 - Live 0x0\n\
                         cxi_user 1 0 - Live 0x0\n\
                         kfabric 1 1 kfi_cxi, Live 0x0\n\
                         kfi_cxi 1 0 - Live 0x0\n\
                         ext4 1 3 - Live 0x0\n";

    fn modules(names: &str) -> BTreeSet<KernelModule> {
        names.split_whitespace().map(|name| crate::modules::name::parse(name).unwrap()).collect()
    }

    fn order(loaded: &str, wanted: &str) -> String {
        let order = plan(&parse(loaded).unwrap(), &modules(wanted), &[]).unwrap();
        order.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    fn obstacles(loaded: &str, wanted: &str, open: &[OpenFile]) -> Vec<String> {
        let obstacles = plan(&parse(loaded).unwrap(), &modules(wanted), open).unwrap_err();
        obstacles.iter().map(ToString::to_string).collect()
    }

    const ALL: &str = "cxi_sbl cxi_sl cxi_ss1 cxi_eth cxi_user kfabric kfi_cxi";

    #[test]
    fn users_go_before_what_they_use() {
        assert_eq!(order(STACK, ALL), "kfi_cxi kfabric cxi_user cxi_eth cxi_ss1 cxi_sl cxi_sbl");
        for (loaded, wanted, expected) in [
            ("cxi_sbl 1 0 - Live 0x0\n", ALL, "cxi_sbl"),
            ("cxi_ss1 1 0 - Live 0x0\ncxi_sl 1 1 cxi_ss1, Live 0x0\n", "cxi_sl cxi_ss1", "cxi_ss1 cxi_sl"),
            (STACK, "cxi_eth", "cxi_eth"),
            ("ext4 1 3 - Live 0x0\n", ALL, ""),
            ("", ALL, ""),
        ] {
            assert_eq!(order(loaded, wanted), expected);
        }
    }

    #[test]
    fn names_what_stands_in_the_way() {
        for (loaded, wanted, expected) in [
            (STACK, "cxi_ss1 cxi_user cxi_eth", "module cxi_ss1 is used by module kfi_cxi, which is not to be removed"),
            (
                "kfabric 1 1 kfilnd, Live 0x0\n",
                "kfabric",
                "module kfabric is used by module kfilnd, which is not to be removed",
            ),
            (
                "cxi_user 1 2 - Live 0x0\n",
                "cxi_user",
                "module cxi_user is in use by something other than a module (reference count 2)",
            ),
            ("cxi_ss1 1 0 - Loading 0x0\n", "cxi_ss1", "module cxi_ss1 is being loaded"),
            ("cxi_ss1 1 0 - Unloading 0x0\n", "cxi_ss1", "module cxi_ss1 is being unloaded"),
            (
                "cxi_sl 1 0 [permanent], Live 0x0\n",
                "cxi_sl",
                "module cxi_sl cannot be unloaded by this kernel (permanent); only a reboot removes it",
            ),
        ] {
            assert_eq!(obstacles(loaded, wanted, &[]), [expected]);
        }
        let circle = "cxi_sl 1 1 cxi_ss1, Live 0x0\ncxi_ss1 1 1 cxi_sl, Live 0x0\n";
        assert_eq!(obstacles(circle, "cxi_sl cxi_ss1", &[]).len(), 2);
    }

    #[test]
    fn an_open_device_stops_everything_unless_nothing_is_left_to_do() {
        let holder = OpenFile { pid: 7, command: "app".into(), device: NicName::new(0), pod_uid: None };
        let holders = std::slice::from_ref(&holder);
        assert_eq!(obstacles(STACK, "cxi_eth", holders), ["process 7 (app) has /dev/cxi0 open"]);
        assert_eq!(plan(&[], &modules(ALL), holders), Ok(vec![]));
    }
}
