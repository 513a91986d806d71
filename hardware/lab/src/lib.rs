//! A node as a tree in a temporary directory: what tests of programs that read a node have in the place of one.
//!
//! Invariant: a tree has the files of a real node, at their places and in their words.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking, in its helpers too")]

use std::{fmt::Write as _, fs, os::unix::fs::symlink, path::PathBuf};

use cxi_hardware::Root;

/// `sys`, `dev` and `proc` of a node.
#[derive(Debug)]
pub struct Tree(tempfile::TempDir);

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A node whose driver is loaded and has no NIC.
    pub fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for directory in ["sys/class/cxi", "sys/module", "dev", "proc/sys/kernel/random"] {
            fs::create_dir_all(tree.path(directory)).unwrap();
        }
        tree.write("proc/sys/kernel/osrelease", "6.8.0-31-generic\n");
        tree.write("proc/sys/kernel/random/boot_id", "0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c\n");
        tree.load(&[("cxi_ss1", 1, "cxi_user,"), ("cxi_user", 0, "-")]);
        tree
    }

    /// A place in it, such as `sys/module`.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Writes a file, and makes its directory.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Where programs read it.
    pub fn root(&self) -> Root {
        Root::new(self.path("sys"), self.path("dev")).with_proc(self.path("proc")).with_run(self.path("run"))
    }

    /// Makes these the loaded modules: name, references, holders. Each has a build-id of its own.
    pub fn load(&self, modules: &[(&str, u32, &str)]) {
        for name in cxi_api::KernelModule::names(cxi_api::KernelModule::ALL) {
            let _ = fs::remove_dir_all(self.path("sys/module").join(name));
        }
        let mut list = String::new();
        for (name, references, holders) in modules {
            writeln!(list, "{name} 4096 {references} {holders} Live 0x0000000000000000 (OE)").unwrap();
            self.write(&format!("sys/module/{name}/initstate"), "live\n");
            let words = [4_u32, 4, 3].map(u32::to_ne_bytes).concat();
            let note = [words.as_slice(), b"GNU\0", &name.as_bytes()[3..7]].concat();
            fs::create_dir_all(self.path(&format!("sys/module/{name}/notes"))).unwrap();
            fs::write(self.path(&format!("sys/module/{name}/notes/.note.gnu.build-id")), note).unwrap();
        }
        // In one step, as the kernel shows it.
        self.write("proc/modules.new", &list);
        fs::rename(self.path("proc/modules.new"), self.path("proc/modules")).unwrap();
    }

    /// A Cassini 2 with its link up.
    pub fn add(&self, name: &str, address: &str) {
        let device = format!("sys/devices/{address}");
        for (attribute, text) in [
            ("vendor", "0x1590\n"),
            ("device", "0x0371\n"),
            ("numa_node", "0\n"),
            ("properties/link", "1\n"),
            ("properties/nid", "0x1a3\n"),
            ("properties/pct_eq", "0\n"),
            ("port/0/link/speed", "ck400G\n"),
            ("uc/qspi_blob_version", "2.1.5\n"),
        ] {
            self.write(&format!("{device}/{attribute}"), text);
        }
        fs::create_dir_all(self.path(&device).join("cxi").join(name)).unwrap();
        symlink(format!("../../../{address}"), self.path(&device).join("cxi").join(name).join("device")).unwrap();
        // Any device will do that no process of the tree has open. It may be there already: of a device that is bound again.
        let _ = symlink("/dev/full", self.path("dev").join(name));
        symlink(format!("../../devices/{address}/cxi/{name}"), self.path("sys/class/cxi").join(name)).unwrap();
    }

    /// Takes a NIC away.
    pub fn remove(&self, name: &str, address: &str) {
        fs::remove_file(self.path("sys/class/cxi").join(name)).unwrap();
        fs::remove_dir_all(self.path("sys/devices").join(address)).unwrap();
    }

    /// A process of a pod that has `device` open.
    pub fn open(&self, pid: u32, device: &str) {
        let process = format!("proc/{pid}");
        self.write(&format!("{process}/comm"), "app\n");
        self.write(&format!("{process}/cgroup"), "0::/kubepods/pod11111111-2222-3333-4444-555555555555/ab\n");
        fs::create_dir_all(self.path(&process).join("fd")).unwrap();
        symlink(format!("/dev/{device}"), self.path(&process).join("fd/3")).unwrap();
    }

    /// Ends a process.
    pub fn close(&self, pid: u32) {
        fs::remove_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
    }
}
