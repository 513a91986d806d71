//! The root file system of a guest: busybox, kmod, and what a test puts into it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    archive,
    error::{Attempt, Error, Result},
    kernel::Kernel,
    program,
};

const INIT: &str = include_str!("root/init");
const CONTROL: &str = include_str!("root/control");

/// Applets of busybox that are left out: kmod is what nodes have, and what the driver must work with.
const NOT_BUSYBOX: [&str; 6] = ["depmod", "insmod", "lsmod", "modinfo", "modprobe", "rmmod"];

/// Modules of its own kernel that a guest always has: its network.
const ALWAYS: [&str; 2] = ["virtio_pci", "virtio_net"];

/// A root file system that is being put together.
#[derive(Debug)]
pub struct Tree {
    directory: TempDir,
    kernel: Kernel,
}

impl Tree {
    /// A root with a shell, kmod, an init that answers the host, and the modules of the network.
    ///
    /// # Errors
    /// [`Error::Missing`] when busybox or kmod is not installed.
    pub fn new(kernel: &Kernel) -> Result<Self> {
        let directory = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
        let tree = Self { directory, kernel: kernel.clone() };
        for directory in ["bin", "sbin", "proc", "sys", "dev", "run", "tmp", "etc", "var", "root", "usr"] {
            tree.make_directory(directory)?;
        }
        // As on every distribution since 2020.
        tree.link("/lib", "usr/lib")?;
        tree.link("/bin", "usr/bin")?;
        tree.link("/sbin", "usr/sbin")?;
        let busybox = program::need("busybox", "busybox-static")?;
        if !program::libraries(&busybox)?.is_empty() {
            return Err(Error::Missing(
                "busybox needs libraries here; the Debian package busybox-static has one that \
                                       does not: apt-get install busybox-static"
                    .to_owned(),
            ));
        }
        tree.copy(&busybox, "bin/busybox")?;
        for applet in program::output(Command::new(&busybox).arg("--list"))?.lines() {
            if !NOT_BUSYBOX.contains(&applet) && applet != "busybox" {
                tree.link("busybox", &format!("bin/{applet}"))?;
            }
        }
        let modprobe = program::need("modprobe", "kmod")?;
        let kmod = fs::canonicalize(&modprobe).attempt(|| format!("find {}", modprobe.display()))?;
        tree.program(&kmod, "bin/kmod")?;
        for name in NOT_BUSYBOX {
            tree.link("/bin/kmod", &format!("sbin/{name}"))?;
        }
        tree.script("init", INIT)?;
        tree.script("sbin/control", CONTROL)?;
        tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
        for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            tree.copy(&kernel.modules().join(list), &format!("lib/modules/{}/{list}", kernel.release))?;
        }
        for module in ALWAYS {
            tree.kernel_module(module)?;
        }
        Ok(tree)
    }

    /// Puts a program of this machine at `to`, without its symbols, with the libraries that it needs. What a
    /// cargo build has made runs in a guest like this, without being built again.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn program(&self, file: &Path, to: &str) -> Result<()> {
        let target = self.prepare(to)?;
        match program::find("strip") {
            Some(strip) => {
                program::output(Command::new(strip).arg("-o").arg(&target).arg(file))?;
            }
            None => self.copy(file, to)?,
        }
        for library in program::libraries(file)? {
            let place = library.strip_prefix("/").unwrap_or(&library).to_path_buf();
            // `/usr/lib` is a link here.
            let place = place.strip_prefix("usr").map(Path::to_path_buf).unwrap_or(place);
            if !self.path(&place).exists() {
                self.copy(&library, &place.to_string_lossy())?;
            }
        }
        Ok(())
    }

    /// A module of the guest's kernel with those that it needs.
    ///
    /// # Errors
    /// When the kernel has no such module.
    pub fn kernel_module(&self, name: &str) -> Result<()> {
        for file in self.kernel.module(name)? {
            let to = Path::new("lib/modules").join(&self.kernel.release).join(&file);
            self.copy(&self.kernel.modules().join(&file), &to.to_string_lossy())?;
        }
        Ok(())
    }

    /// A module that is not the kernel's, as if it had come with it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn foreign_module(&self, file: &Path) -> Result<()> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.copy(file, &format!("lib/modules/{}/extra/{name}", self.kernel.release))
    }

    /// A file with this text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(&self, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let target = self.prepare(path)?;
        fs::write(&target, text).attempt(|| format!("write {}", target.display()))
    }

    /// A program that is a script.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn script(&self, path: &str, text: &str) -> Result<()> {
        self.file(path, text)?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path(path), mode).attempt(|| format!("make {path} executable"))
    }

    /// A link at `path` to `target`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn link(&self, target: &str, path: &str) -> Result<()> {
        let link = self.prepare(path)?;
        symlink(target, &link).attempt(|| format!("link {}", link.display()))
    }

    /// The directory `from` of this machine with everything in it, at `to`. Links stay links.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn directory(&self, from: &Path, to: &str) -> Result<()> {
        self.make_directory(to)?;
        for entry in fs::read_dir(from).attempt(|| format!("list {}", from.display()))? {
            let entry = entry.attempt(|| format!("list {}", from.display()))?;
            let (path, name) = (entry.path(), entry.file_name());
            let to = format!("{to}/{}", name.to_string_lossy());
            let kind = entry.file_type().attempt(|| format!("look at {}", path.display()))?;
            if kind.is_symlink() {
                let target = fs::read_link(&path).attempt(|| format!("read {}", path.display()))?;
                self.link(&target.to_string_lossy(), &to)?;
            } else if kind.is_dir() {
                self.directory(&path, &to)?;
            } else {
                self.copy(&path, &to)?;
            }
        }
        Ok(())
    }

    /// Writes the root as an archive that a kernel takes as its first, into `file`.
    ///
    /// # Errors
    /// When the list of modules cannot be made or the file not be written.
    pub fn write_initrd(&self, file: &Path) -> Result<()> {
        self.depmod()?;
        let archive = fs::File::create(file).attempt(|| format!("create {}", file.display()))?;
        archive::write(self.directory.path(), std::io::BufWriter::new(archive))
            .attempt(|| format!("write {}", file.display()))
    }

    /// Where this root is on this machine, with its list of modules made: for a disk.
    ///
    /// # Errors
    /// When the list of modules cannot be made.
    pub fn finished(&self) -> Result<&Path> {
        self.depmod()?;
        Ok(self.directory.path())
    }

    fn depmod(&self) -> Result<()> {
        let mut depmod = Command::new(program::need("depmod", "kmod")?);
        program::output(depmod.arg("-b").arg(self.directory.path()).arg(&self.kernel.release)).map(drop)
    }

    /// A directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_directory(&self, path: &str) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(&path).attempt(|| format!("create {}", path.display()))
    }

    /// Copies a file of this machine, with its permissions.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let target = self.prepare(to)?;
        fs::copy(from, &target).map(drop).attempt(|| format!("copy {} to {}", from.display(), target.display()))
    }

    /// Where a file of this root is on this machine.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.directory.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The place of a file, in a directory that exists. A link there goes: writing through it would change what it leads to.
    fn prepare(&self, path: &str) -> Result<PathBuf> {
        let path = self.path(path);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).attempt(|| format!("create {}", parent.display()))?;
        if path.is_symlink() {
            fs::remove_file(&path).attempt(|| format!("remove {}", path.display()))?;
        }
        Ok(path)
    }
}
