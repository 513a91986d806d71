//! The loaded modules of the CXI stack, told by two sources that have to agree.

use std::{fs, io, thread, time::Duration};

use cxi_api::KernelModule;

use crate::{
    AttributeError, AttributeErrorKind, Root, build_id,
    modules::{self, LoadedModule},
};

/// How often a list that contradicts itself is read again, and how long after: a module that comes or goes is in one
/// source and not yet in the other for less than this.
const READ_TRIES: u32 = 5;
const READ_PAUSE: Duration = Duration::from_millis(20);

/// The loaded modules of the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// In the order of [`KernelModule::ALL`].
    pub modules: Vec<StackModule>,
}

/// One loaded module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackModule {
    /// What `/proc/modules` says.
    pub module: LoadedModule,
    /// GNU build-id in lower-case hexadecimal, `None` when the kernel does not show one.
    pub build_id: Option<String>,
}

/// It cannot be told which modules are loaded. That is not "none".
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Something could not be read.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The two sources go on contradicting each other.
    #[error("module {name} is {} in /proc/modules and {} in /sys/module", in_words(*.listed), in_words(!*.listed))]
    Contradiction {
        /// The module.
        name: &'static str,
        /// Whether `/proc/modules` has it.
        listed: bool,
    },
}

fn in_words(listed: bool) -> &'static str {
    if listed { "listed" } else { "not listed" }
}

impl Stack {
    /// Reads the modules of the stack under `root`. Waits a moment (100 ms at most) while one comes or goes.
    ///
    /// # Errors
    /// When a source cannot be read, or both disagree: `/proc/modules` alone may skip a module when another one is
    /// unloaded in the middle of reading it.
    pub fn read(root: &Root) -> Result<Self, StackError> {
        let mut tries = 1..READ_TRIES;
        loop {
            match Self::read_once(root) {
                Err(StackError::Contradiction { .. }) if tries.next().is_some() => thread::sleep(READ_PAUSE),
                answer => return answer,
            }
        }
    }

    fn read_once(root: &Root) -> Result<Self, StackError> {
        let mut listed = modules::read(root)?;
        let mut modules = Vec::new();
        for name in KernelModule::names(KernelModule::ALL) {
            let directory = root.sys().join("module").join(name);
            let index = listed.iter().position(|module| module.name == name);
            // Directories without this file belong to what is built into the kernel.
            let in_sysfs = is_there(root, &directory.join("initstate"))?;
            match index {
                Some(index) if in_sysfs => {
                    let build_id = build_id::read(&directory)?;
                    modules.push(StackModule { module: listed.swap_remove(index), build_id });
                }
                None if !in_sysfs => {}
                _ => return Err(StackError::Contradiction { name, listed: index.is_some() }),
            }
        }
        Ok(Self { modules })
    }

    /// References to the character devices' module that no module accounts for: open files, and what else keeps a
    /// device in use. Not a number of processes, which share files.
    pub fn references_to_devices(&self) -> u32 {
        references_to_devices(self.modules.iter().map(|module| &module.module))
    }
}

/// [`Stack::references_to_devices`] by a list of modules.
pub fn references_to_devices<'a>(modules: impl IntoIterator<Item = &'a LoadedModule>) -> u32 {
    let user = modules.into_iter().find(|module| module.name == KernelModule::CHARACTER_DEVICES.name());
    user.map_or(0, LoadedModule::references_of_others)
}

/// Whether there is a file at `path`. Where not even the directory of all modules is, nothing can be said.
fn is_there(root: &Root, path: &std::path::Path) -> Result<bool, AttributeError> {
    let failed = |path: &std::path::Path, error: &io::Error| AttributeError {
        path: path.into(),
        kind: AttributeErrorKind::from_io(error),
    };
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let all = root.sys().join("module");
            fs::read_dir(&all).map(|_| false).map_err(|error| failed(&all, &error))
        }
        Err(error) => Err(failed(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(list: &str) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for directory in ["proc", "sys/module"] {
                fs::create_dir_all(tree.0.path().join(directory)).unwrap();
            }
            fs::write(tree.0.path().join("proc/modules"), list).unwrap();
            tree
        }

        fn in_sysfs(&self, name: &str) {
            let directory = self.0.path().join("sys/module").join(name);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("initstate"), "live\n").unwrap();
        }

        fn root(&self) -> Root {
            Root::new(self.0.path().join("sys"), "/dev").with_proc(self.0.path().join("proc"))
        }
    }

    #[test]
    fn modules_of_the_stack_and_no_others() {
        let tree = Tree::new("ext4 1 3 - Live 0x0\ncxi_user 1 3 other, Live 0x0\ncxi_ss1 1 1 cxi_user, Live 0x0\n");
        for name in ["ext4", "cxi_user", "cxi_ss1"] {
            tree.in_sysfs(name);
        }
        let stack = Stack::read(&tree.root()).unwrap();
        let names: Vec<_> = stack.modules.iter().map(|module| module.module.name.as_str()).collect();
        assert_eq!(names, ["cxi_ss1", "cxi_user"]);
        assert_eq!(stack.modules[0].build_id, None);
        assert_eq!(stack.references_to_devices(), 2);
        assert_eq!(Stack::default().references_to_devices(), 0);
    }

    #[test]
    fn sources_that_disagree_prove_nothing() {
        let tree = Tree::new("");
        assert_eq!(Stack::read(&tree.root()).unwrap(), Stack::default());
        fs::create_dir_all(tree.0.path().join("sys/module/cxi_ss1")).unwrap();
        assert_eq!(Stack::read(&tree.root()).unwrap(), Stack::default(), "built in, not loaded");
        tree.in_sysfs("cxi_ss1");
        let error = Stack::read(&tree.root()).unwrap_err().to_string();
        assert_eq!(error, "module cxi_ss1 is not listed in /proc/modules and listed in /sys/module");
        let tree = Tree::new("cxi_ss1 1 0 - Loading 0x0\n");
        assert!(matches!(Stack::read(&tree.root()), Err(StackError::Contradiction { listed: true, .. })));
    }

    #[test]
    fn a_module_on_its_way_is_waited_for() {
        let tree = Tree::new("cxi_ss1 1 0 - Loading 0x0\n");
        let root = tree.root();
        let reading = thread::spawn(move || Stack::read(&root));
        thread::sleep(READ_PAUSE / 2);
        tree.in_sysfs("cxi_ss1");
        assert_eq!(reading.join().unwrap().unwrap().modules.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_not_nothing() {
        let tree = Tree::new("cxi_ss1 1 0 -\n");
        assert!(Stack::read(&tree.root()).is_err());
        fs::write(tree.0.path().join("proc/modules"), b"\xff\n").unwrap();
        assert!(Stack::read(&tree.root()).is_err());
        fs::write(tree.0.path().join("proc/modules"), vec![b'\n'; 2 << 20]).unwrap();
        assert!(Stack::read(&tree.root()).unwrap_err().to_string().contains("longer"));
        fs::remove_file(tree.0.path().join("proc/modules")).unwrap();
        assert!(Stack::read(&tree.root()).is_err());
        let tree = Tree::new("");
        fs::remove_dir(tree.0.path().join("sys/module")).unwrap();
        assert!(Stack::read(&tree.root()).is_err());
        let tree = Tree::new("cxi_ss1 1 0 - Live 0x0\n");
        tree.in_sysfs("cxi_ss1");
        fs::create_dir_all(tree.0.path().join("sys/module/cxi_ss1/notes/.note.gnu.build-id")).unwrap();
        assert!(Stack::read(&tree.root()).is_err());
    }
}
