//! `cxi-agent remove-modules`: takes out what a failed load left behind.
//!
//! Runs once in a pod of its own that has `CAP_SYS_MODULE`, and `CAP_SYS_PTRACE` and the host's process ids for
//! looking at open files. It never forces: a module goes only when nothing uses it.

use std::{collections::BTreeSet, ffi::CString, fs, io, path::PathBuf};

use anyhow::{Context as _, bail};
use cxi_api::KernelModule;
use cxi_hardware::{LoadedModule, ModuleState, OpenFile, Root, modules, open_files_behind, references_to_devices};

use crate::modules::{
    name,
    removal_plan::{Obstacle, plan},
};

/// Remove kernel modules of the CXI stack that nothing uses, users before what they use.
///
/// Nothing is removed unless all of them can be. Modules that are not loaded are fine. Ends with status 0 when none of
/// them is loaded any more, else with 1 and a sentence for everything that stands in the way.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Module to remove; repeat for more.
    #[arg(long = "module", value_name = "NAME", required = true, value_parser = name::parse)]
    modules: Vec<KernelModule>,

    /// Where the host's /proc is.
    #[arg(long, default_value = "/proc")]
    proc: PathBuf,

    /// Where the host's /sys is.
    #[arg(long, default_value = "/sys")]
    sys: PathBuf,
}

impl Args {
    /// Removes the modules.
    ///
    /// # Errors
    /// When something stands in the way or cannot be told.
    pub fn run(self) -> anyhow::Result<()> {
        let wanted = self.modules.into_iter().collect();
        remove(&Host(Root::new(self.sys, "/dev").with_proc(self.proc)), &wanted, &mut |line| println!("{line}"))
    }
}

/// What removal needs of a kernel.
trait Kernel {
    /// Every module.
    fn loaded(&self) -> anyhow::Result<Vec<LoadedModule>>;
    /// Every process with a device open.
    fn holders(&self) -> anyhow::Result<Vec<OpenFile>>;
    /// The reference count of a loaded module by a second source, negative while it is being unloaded; `None` when it is
    /// gone.
    fn references(&self, module: KernelModule) -> anyhow::Result<Option<i64>>;
    /// Unloads a module that nothing uses, else fails at once.
    fn delete(&self, module: KernelModule) -> io::Result<()>;
}

fn remove(kernel: &impl Kernel, wanted: &BTreeSet<KernelModule>, say: &mut impl FnMut(String)) -> anyhow::Result<()> {
    let order = plan(&kernel.loaded()?, wanted, &kernel.holders()?).map_err(|obstacles| refusal(&obstacles))?;
    for module in wanted.iter().filter(|module| !order.contains(module)) {
        say(format!("{module}: not loaded"));
    }
    for module in order {
        // The plan is a moment old: look again, at this module alone.
        let alone = BTreeSet::from([module]);
        plan(&kernel.loaded()?, &alone, &kernel.holders()?).map_err(|obstacles| refusal(&obstacles))?;
        match kernel.references(module)? {
            None => {
                say(format!("{module}: gone meanwhile"));
                continue;
            }
            Some(0) => {}
            Some(count) => {
                let state = ModuleState::Unloading;
                let obstacle = u32::try_from(count)
                    .map_or(Obstacle::Changing { module, state }, |count| Obstacle::Referenced { module, count });
                return Err(refusal(&[obstacle]));
            }
        }
        match kernel.delete(module) {
            Ok(()) => say(format!("{module}: removed")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => say(format!("{module}: gone meanwhile")),
            Err(error) => return Err(error).with_context(|| explain(module, &kernel.loaded())),
        }
    }
    let loaded = kernel.loaded()?;
    let back: Vec<_> =
        wanted.iter().filter(|module| loaded.iter().any(|loaded| loaded.name == module.name())).collect();
    if let Some(module) = back.first() {
        bail!("module {module} is loaded again: something else is loading modules");
    }
    Ok(())
}

fn refusal(obstacles: &[Obstacle]) -> anyhow::Error {
    let sentences: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("nothing more was removed: {}", sentences.join("; "))
}

/// What could not be removed, and who holds it by now as far as that can be told.
fn explain(module: KernelModule, loaded: &anyhow::Result<Vec<LoadedModule>>) -> String {
    let found = loaded.as_ref().ok().and_then(|loaded| loaded.iter().find(|loaded| loaded.name == module.name()));
    match found {
        Some(found) if !found.holders.is_empty() => {
            format!("module {module} could not be removed (used by {})", found.holders.join(", "))
        }
        Some(found) if found.references > 0 => {
            format!("module {module} could not be removed (reference count {})", found.references)
        }
        _ => format!("module {module} could not be removed"),
    }
}

/// The running kernel.
struct Host(Root);

impl Kernel for Host {
    fn loaded(&self) -> anyhow::Result<Vec<LoadedModule>> {
        Ok(modules::read(&self.0)?)
    }

    fn holders(&self) -> anyhow::Result<Vec<OpenFile>> {
        let references = references_to_devices(&self.loaded()?);
        Ok(open_files_behind(&self.0, references)?)
    }

    fn references(&self, module: KernelModule) -> anyhow::Result<Option<i64>> {
        let path = self.0.sys().join("module").join(module.name()).join("refcnt");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let count = text.trim().parse();
                Ok(Some(count.with_context(|| format!("{} does not hold a number", path.display()))?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn delete(&self, module: KernelModule) -> io::Result<()> {
        // O_NONBLOCK: fail at once while it is in use. Without O_TRUNC, which would force.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        Ok(rustix::system::delete_module(CString::new(module.name())?.as_c_str(), flags)?)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use cxi_hardware::NicName;

    use super::*;

    /// A kernel with these modules; deleting one drops its reference to others.
    struct Fake {
        modules: RefCell<Vec<LoadedModule>>,
        holders: RefCell<Vec<OpenFile>>,
        deleted: RefCell<Vec<String>>,
        /// What the second source says, where it is not the same.
        count: Option<i64>,
        /// What happens at a deletion besides the deletion.
        at_delete: fn(&Fake, KernelModule) -> io::Result<()>,
    }

    impl Fake {
        fn new(modules: &str) -> Self {
            Self {
                modules: RefCell::new(modules::parse(modules).unwrap()),
                holders: RefCell::default(),
                deleted: RefCell::default(),
                count: None,
                at_delete: |_, _| Ok(()),
            }
        }

        fn remove(&self, wanted: &[KernelModule]) -> (anyhow::Result<()>, Vec<String>) {
            let mut said = Vec::new();
            let result = remove(self, &wanted.iter().copied().collect(), &mut |line| said.push(line));
            (result, said)
        }

        fn refuses(&self, wanted: &[KernelModule]) -> String {
            format!("{:#}", self.remove(wanted).0.unwrap_err())
        }
    }

    impl Kernel for Fake {
        fn loaded(&self) -> anyhow::Result<Vec<LoadedModule>> {
            Ok(self.modules.borrow().clone())
        }

        fn holders(&self) -> anyhow::Result<Vec<OpenFile>> {
            Ok(self.holders.borrow().clone())
        }

        fn references(&self, module: KernelModule) -> anyhow::Result<Option<i64>> {
            let modules = self.modules.borrow();
            let found = modules.iter().find(|loaded| loaded.name == module.name());
            Ok(found.map(|loaded| self.count.unwrap_or(loaded.references.into())))
        }

        fn delete(&self, module: KernelModule) -> io::Result<()> {
            (self.at_delete)(self, module)?;
            let mut modules = self.modules.borrow_mut();
            modules.retain(|loaded| loaded.name != module.name());
            for other in modules.iter_mut().filter(|other| other.holders.iter().any(|name| name == module.name())) {
                other.references -= 1;
                other.holders.retain(|name| name != module.name());
            }
            self.deleted.borrow_mut().push(module.to_string());
            Ok(())
        }
    }

    const STACK: &str = "cxi_sl 1 1 cxi_ss1, Live 0x0\n\
                         cxi_ss1 1 2 cxi_user,cxi_eth, Live 0x0\n\
                         cxi_eth 1 0 - Live 0x0\n\
                         cxi_user 1 0 - Live 0x0\n";

    #[test]
    fn removes_all_in_order_and_says_so() {
        let kernel = Fake::new(STACK);
        let (result, said) = kernel.remove(&name::MANAGED);
        result.unwrap();
        assert_eq!(*kernel.deleted.borrow(), ["cxi_user", "cxi_eth", "cxi_ss1", "cxi_sl"]);
        let expected = [
            "kfi_cxi: not loaded",
            "kfabric: not loaded",
            "cxi_sbl: not loaded",
            "cxi_user: removed",
            "cxi_eth: removed",
            "cxi_ss1: removed",
            "cxi_sl: removed",
        ];
        assert_eq!(said, expected);
        kernel.remove(&name::MANAGED).0.expect("a second run has nothing to do");
    }

    #[test]
    fn removes_nothing_when_one_is_in_use() {
        let kernel = Fake::new(STACK);
        kernel.modules.borrow_mut()[3].references = 1;
        let said = kernel.refuses(&name::MANAGED);
        assert_eq!(
            said,
            "nothing more was removed: module cxi_user is in use by something other than a module (reference count 1)"
        );
        assert!(kernel.deleted.borrow().is_empty());
    }

    #[test]
    fn leaves_alone_what_another_process_is_unloading() {
        let mut kernel = Fake::new(STACK);
        kernel.count = Some(-1);
        assert_eq!(
            kernel.refuses(&[KernelModule::CxiUser]),
            "nothing more was removed: module cxi_user is being unloaded"
        );
        kernel.count = Some(2);
        assert!(kernel.refuses(&[KernelModule::CxiUser]).ends_with("(reference count 2)"));
        assert!(kernel.deleted.borrow().is_empty());
    }

    #[test]
    fn stops_when_a_device_is_opened_in_between() {
        let mut kernel = Fake::new(STACK);
        kernel.at_delete = |kernel, _| {
            let holder = OpenFile { pid: 9, command: "app".into(), device: NicName::new(0), pod_uid: None };
            kernel.holders.borrow_mut().push(holder);
            Ok(())
        };
        assert!(kernel.refuses(&name::MANAGED).contains("process 9 (app) has /dev/cxi0 open"));
        assert_eq!(kernel.deleted.borrow().len(), 1);
    }

    #[test]
    fn tells_why_the_kernel_refused() {
        let mut kernel = Fake::new("cxi_user 1 0 - Live 0x0\n");
        kernel.at_delete = |kernel, _| {
            kernel.modules.borrow_mut()[0].references = 1;
            Err(io::ErrorKind::WouldBlock.into())
        };
        let said = kernel.refuses(&[KernelModule::CxiUser]);
        assert!(said.starts_with("module cxi_user could not be removed (reference count 1): "), "{said}");
    }

    #[test]
    fn a_module_that_another_process_removed_is_fine_and_one_that_came_back_is_not() {
        let mut kernel = Fake::new("cxi_user 1 0 - Live 0x0\n");
        kernel.at_delete = |kernel, _| {
            kernel.modules.borrow_mut().clear();
            Err(io::ErrorKind::NotFound.into())
        };
        let (result, said) = kernel.remove(&[KernelModule::CxiUser]);
        result.unwrap();
        assert_eq!(said, ["cxi_user: gone meanwhile"]);

        let mut kernel = Fake::new(STACK);
        kernel.at_delete = |kernel, module| {
            if module == KernelModule::CxiSl {
                kernel.modules.borrow_mut().push("cxi_eth 1 0 - Live 0x0".parse().unwrap());
            }
            Ok(())
        };
        assert!(kernel.refuses(&name::MANAGED).contains("module cxi_eth is loaded again"));
    }

    #[test]
    fn the_host_is_read_from_its_trees() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let host = Host(Root::new(path("sys"), "/dev").with_proc(path("proc")));
        assert!(host.loaded().is_err(), "an unreadable list is not an empty one");
        fs::create_dir_all(path("proc")).unwrap();
        fs::create_dir_all(path("sys/module/cxi_user")).unwrap();
        fs::write(path("proc/modules"), STACK).unwrap();
        fs::write(path("sys/module/cxi_user/refcnt"), "3\n").unwrap();
        assert_eq!(host.loaded().unwrap().len(), 4);
        assert!(host.holders().unwrap().is_empty());
        assert_eq!(host.references(KernelModule::CxiUser).unwrap(), Some(3));
        assert_eq!(host.references(KernelModule::CxiSl).unwrap(), None);
        fs::write(path("sys/module/cxi_user/refcnt"), "-1\n").unwrap();
        assert_eq!(host.references(KernelModule::CxiUser).unwrap(), Some(-1));
        fs::write(path("sys/module/cxi_user/refcnt"), "many").unwrap();
        assert!(host.references(KernelModule::CxiUser).is_err());
    }
}
