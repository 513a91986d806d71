//! The five kernel modules of the CXI stack and the rules by which they come and go.

use cxi_api::KernelModule;

use super::{
    STACK,
    image::{BuildOf, build_id},
};

/// The module that owns the character devices, and so is held by open files.
const CHARACTER_DEVICES: &str = KernelModule::CHARACTER_DEVICES.name();

/// The module that binds the NICs.
const NIC_DRIVER: &str = KernelModule::NICS.name();

/// A module in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Name as in `/sys/module`.
    pub name: &'static str,
    /// What it was built from.
    pub build: BuildOf,
}

impl Loaded {
    /// Its GNU build-id.
    pub fn build_id(&self) -> String {
        build_id(&self.build, self.name)
    }
}

/// The CXI modules in the kernel of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverModel {
    modules: Vec<Loaded>,
}

/// What a load that succeeded did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadEffect {
    /// These modules came in.
    Loaded(Vec<&'static str>),
    /// All names were there already, of whatever release: `modprobe` calls that a success.
    NoEffect,
}

/// A load that goes wrong half-way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFault {
    /// Release that fails; any when absent.
    pub version: Option<String>,
    /// Modules that get in before the failure and stay.
    pub leaves: Vec<&'static str>,
    /// What `modprobe` prints.
    pub message: String,
}

/// Why a load failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The image has no modules for the running kernel.
    #[error("modprobe: FATAL: Module cxi_ss1 not found in directory /opt/lib/modules/{0}")]
    WrongKernel(String),
    /// Modules of another release are in the way.
    #[error("modprobe: ERROR: could not insert '{0}': Invalid argument ({0}: disagrees about version of symbol)")]
    Symbols(&'static str),
    /// An injected fault.
    #[error("{0}")]
    Fault(String),
}

/// Modules that are in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("modprobe: FATAL: Module cxi_user is in use.")]
pub struct Busy;

/// Why a module could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// Something uses it.
    #[error("delete_module {module}: Resource temporarily unavailable (reference count {refcount})")]
    InUse {
        /// The module.
        module: &'static str,
        /// Its reference count.
        refcount: usize,
    },
    /// Not a module of the CXI stack.
    #[error("{0} is not a module of the CXI stack")]
    Unknown(String),
}

impl DriverModel {
    /// The modules, in the order in which they were loaded.
    pub fn modules(&self) -> &[Loaded] {
        &self.modules
    }

    /// The release of the driver that binds the NICs, if one does.
    pub fn bound(&self) -> Option<&BuildOf> {
        self.modules.iter().find(|m| m.name == NIC_DRIVER).map(|m| &m.build)
    }

    /// Whether all of the stack is in, whatever the release.
    pub fn is_complete(&self) -> bool {
        self.modules.len() == STACK.len()
    }

    /// Loaded modules that use `name`.
    pub fn users(&self, name: &str) -> Vec<&'static str> {
        let needs_it = |module: &KernelModule| module.needs().iter().any(|needed| needed.name() == name);
        let candidates = KernelModule::DRIVER.into_iter().filter(needs_it).map(KernelModule::name);
        candidates.filter(|user| self.has(user)).collect()
    }

    /// The reference count of a module as in `/proc/modules`.
    pub fn refcount(&self, name: &str, open_files: usize) -> usize {
        self.users(name).len() + if name == CHARACTER_DEVICES { open_files } else { 0 }
    }

    /// `modprobe` of the stack from an image on a kernel (in tag spelling).
    ///
    /// # Errors
    /// If the image is for another kernel, modules of another release are left over, or a fault is injected; what got in
    /// before a fault stays in.
    pub fn load(&mut self, build: &BuildOf, running: &str, fault: Option<&LoadFault>) -> Result<LoadEffect, LoadError> {
        if build.kernel != running {
            return Err(LoadError::WrongKernel(running.to_owned()));
        }
        if self.is_complete() {
            return Ok(LoadEffect::NoEffect);
        }
        let missing: Vec<&'static str> = STACK.into_iter().filter(|name| !self.has(name)).collect();
        if let (Some(first), true) = (missing.first(), self.modules.iter().any(|m| m.build != *build)) {
            return Err(LoadError::Symbols(first));
        }
        let fault = fault.filter(|fault| fault.version.as_ref().is_none_or(|v| *v == build.version));
        for name in &missing {
            if fault.is_none_or(|fault| fault.leaves.contains(name)) {
                self.modules.push(Loaded { name, build: build.clone() });
            }
        }
        match fault {
            Some(fault) => Err(LoadError::Fault(fault.message.clone())),
            None => Ok(LoadEffect::Loaded(missing)),
        }
    }

    /// `modprobe -r` of the stack. Modules that are not loaded are a success.
    ///
    /// # Errors
    /// If a device is open; then nothing is removed.
    pub fn unload(&mut self, open_files: usize) -> Result<Vec<&'static str>, Busy> {
        if open_files > 0 && self.has(CHARACTER_DEVICES) {
            return Err(Busy);
        }
        Ok(self.modules.drain(..).rev().map(|m| m.name).collect())
    }

    /// `delete_module` of some modules, users first. A module that is not loaded is passed over.
    ///
    /// # Errors
    /// If one is in use or not of this stack; those that could go before it are gone.
    pub fn remove(&mut self, names: &[String], open_files: usize) -> Result<Vec<&'static str>, RemoveError> {
        let normal: Vec<String> = names.iter().map(|name| name.replace('-', "_")).collect();
        if let Some(unknown) = normal.iter().find(|name| !STACK.contains(&name.as_str())) {
            return Err(RemoveError::Unknown(unknown.clone()));
        }
        let mut removed = Vec::new();
        for module in STACK.into_iter().rev().filter(|name| normal.iter().any(|n| n == name)) {
            if !self.has(module) {
                continue;
            }
            let refcount = self.refcount(module, open_files);
            if refcount > 0 {
                return Err(RemoveError::InUse { module, refcount });
            }
            self.modules.retain(|m| m.name != module);
            removed.push(module);
        }
        Ok(removed)
    }

    /// A boot: a kernel without modules.
    pub fn reset(&mut self) {
        self.modules.clear();
    }

    fn has(&self, name: &str) -> bool {
        self.modules.iter().any(|m| m.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(version: &str) -> BuildOf {
        BuildOf { version: version.into(), kernel: "6.1".into() }
    }

    fn loaded(version: &str) -> DriverModel {
        let mut model = DriverModel::default();
        model.load(&build(version), "6.1", None).unwrap();
        model
    }

    fn fault(leaves: &[&'static str]) -> LoadFault {
        LoadFault { version: Some("B".into()), leaves: leaves.to_vec(), message: "no such device".into() }
    }

    #[test]
    fn loads_and_unloads() {
        let mut model = loaded("A");
        assert!(model.is_complete());
        assert_eq!(model.bound(), Some(&build("A")));
        assert_eq!(model.unload(0).unwrap().len(), 5);
        assert_eq!(model, DriverModel::default());
        assert!(model.unload(0).unwrap().is_empty(), "nothing to unload is a success");
    }

    #[test]
    fn loading_what_is_loaded_is_a_success_whatever_the_release() {
        let mut model = loaded("A");
        assert_eq!(model.load(&build("A"), "6.1", None), Ok(LoadEffect::NoEffect));
        assert_eq!(model.load(&build("B"), "6.1", None), Ok(LoadEffect::NoEffect));
        assert_eq!(model.bound(), Some(&build("A")), "the old driver is still in");
    }

    #[test]
    fn refuses_a_load_on_leftovers_of_another_release() {
        let mut model = DriverModel::default();
        let failed = model.load(&build("B"), "6.1", Some(&fault(&["cxi_sbl", "cxi_sl"])));
        assert_eq!(failed, Err(LoadError::Fault("no such device".into())));
        assert_eq!(model.modules().len(), 2);
        assert_eq!(model.load(&build("A"), "6.1", None), Err(LoadError::Symbols("cxi_ss1")));
        assert_eq!(model.modules().len(), 2, "a refused load has no effect");
        let effect = model.load(&build("B"), "6.1", None);
        assert_eq!(effect, Ok(LoadEffect::Loaded(vec!["cxi_ss1", "cxi_user", "cxi_eth"])));
    }

    #[test]
    fn a_fault_hits_only_its_release() {
        let mut model = DriverModel::default();
        assert!(model.load(&build("A"), "6.1", Some(&fault(&[]))).is_ok());
    }

    #[test]
    fn refuses_a_load_for_another_kernel_even_when_loaded() {
        let wrong = LoadError::WrongKernel("6.12".into());
        assert_eq!(DriverModel::default().load(&build("A"), "6.12", None), Err(wrong.clone()));
        assert_eq!(loaded("A").load(&build("A"), "6.12", None), Err(wrong));
    }

    #[test]
    fn refuses_to_unload_under_an_open_file() {
        let mut model = loaded("A");
        assert_eq!(model.unload(1), Err(Busy));
        assert!(model.is_complete());
    }

    #[test]
    fn removes_leftovers_users_first_and_never_what_is_in_use() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let mut model = loaded("A");
        let in_use = RemoveError::InUse { module: "cxi_ss1", refcount: 2 };
        assert_eq!(model.remove(&names(&["cxi_ss1"]), 0), Err(in_use));
        let open = RemoveError::InUse { module: "cxi_user", refcount: 3 };
        assert_eq!(model.remove(&names(&["cxi_user"]), 3), Err(open));
        assert_eq!(model.remove(&names(&["ext4"]), 0), Err(RemoveError::Unknown("ext4".into())));
        assert_eq!(model.remove(&names(&STACK), 0).unwrap().len(), 5);
        assert!(model.modules().is_empty());
        assert!(model.remove(&names(&["cxi-ss1"]), 0).unwrap().is_empty());
    }

    #[test]
    fn reference_counts_are_those_of_the_users() {
        let model = loaded("A");
        let counts = STACK.map(|name| model.refcount(name, 4));
        assert_eq!(counts, [2, 1, 2, 4, 0]);
    }
}
