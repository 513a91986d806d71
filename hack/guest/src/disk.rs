//! A root on a disk: what is too big for a guest's memory, or is to be there after a reboot.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Attempt, Result},
    kernel::Kernel,
    program,
    tree::Tree,
};

/// The first process of a guest with a disk, before the disk's own.
const INIT: &str = include_str!("root/disk");

/// Room on the disk. Only what is used takes room on this machine.
const BYTES: u64 = 2 << 30;

/// A disk that any number of guests may begin from at the same time. Each sees its own changes, which end with its QEMU, and
/// not when it reboots.
#[derive(Clone, Debug)]
pub struct Disk {
    image: PathBuf,
    initrd: PathBuf,
}

impl Disk {
    /// Writes `tree` as a disk, and what boots from it, into `directory`.
    ///
    /// # Errors
    /// When e2fsprogs is not installed, or there is no room.
    pub fn write(tree: &Tree, kernel: &Kernel, directory: &Path) -> Result<Self> {
        let image = directory.join("disk");
        File::create(&image).and_then(|file| file.set_len(BYTES)).attempt(|| format!("create {}", image.display()))?;
        let mut mkfs = Command::new(program::need("mkfs.ext4", "e2fsprogs")?);
        // Nothing has to survive a power cut of the guest, so no journal.
        mkfs.args([
            "-q",
            "-F",
            "-O",
            "^has_journal,^metadata_csum",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=1,root_owner=0:0",
        ]);
        program::output(mkfs.arg("-d").arg(tree.finished()?).arg(&image))?;

        let first = Tree::new(kernel)?;
        for module in ["virtio_blk", "ext4"] {
            first.kernel_module(module)?;
        }
        first.script("init", INIT)?;
        let initrd = directory.join("initrd");
        first.write_initrd(&initrd)?;
        Ok(Self { image, initrd })
    }

    /// What a machine boots with.
    pub fn initrd(&self) -> &Path {
        &self.initrd
    }

    /// Arguments that give a machine this disk.
    pub fn arguments(&self) -> [String; 2] {
        let image = self.image.display();
        ["-drive".to_owned(), format!("file={image},format=raw,if=virtio,cache=unsafe,aio=threads,snapshot=on")]
    }
}
