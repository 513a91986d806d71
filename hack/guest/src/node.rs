//! The root of a guest that stands for a node: NICs, driver images as they are unpacked, and the programs that run there.

use std::path::PathBuf;

use cxi_control_plane::Progress;

use crate::{
    Driver, Flavour, Kernel, Line, Tree, Uefi,
    driver::nics,
    error::{Error, Result},
    machine::qemu,
    program,
};

/// The kernels that the tests of this crate boot: two lines, two flavours.
pub const TESTED_KERNELS: [(Line, Flavour); 2] = [(Line::V6_1, Flavour::Generic), (Line::V6_12, Flavour::Cloud)];

/// Another flavour of the first of them, for modules that do not fit.
const OTHER_FLAVOUR: (Line, Flavour) = (Line::V6_1, Flavour::Cloud);

/// The releases of the stand-in driver that they load.
pub const TESTED_RELEASES: [&str; 2] = ["13.0.0", "13.1.0"];

/// What a node's root holds besides a shell and kmod.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Releases of the stand-in driver whose images are there, unpacked below `/images/<release>`.
    pub releases: Vec<String>,
    /// Programs of this machine that are there, in `/bin` by their own names.
    pub programs: Vec<PathBuf>,
}

impl Node {
    /// Puts the root together.
    ///
    /// # Errors
    /// When a driver cannot be built or a program not be read.
    pub fn tree(&self, kernel: &Kernel, progress: &Progress) -> Result<Tree> {
        let tree = Tree::new(kernel)?;
        tree.foreign_module(&nics(kernel, progress)?)?;
        // The driver needs it, and it is the node's own.
        tree.kernel_module("configfs")?;
        for release in &self.releases {
            let driver = Driver::stand_in(kernel, release, progress)?;
            tree.directory(driver.root(), &format!("images/{release}"))?;
        }
        for program in &self.programs {
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            tree.program(program, &format!("bin/{name}"))?;
        }
        Ok(tree)
    }
}

/// Debian packages that guests need and this machine does not have.
pub fn missing_packages() -> Vec<&'static str> {
    const NEEDED: [(&str, &str); 12] = [
        ("busybox", "busybox-static"),
        ("modprobe", "kmod"),
        ("apt-get", "apt"),
        ("dpkg-deb", "dpkg"),
        ("gcc", "gcc"),
        ("make", "make"),
        ("readelf", "binutils"),
        ("openssl", "openssl"),
        ("mkfs.ext4", "e2fsprogs"),
        ("mount", "mount"),
        // Some of the images are made by the pipeline.
        ("buildah", "buildah"),
        ("mmdebstrap", "mmdebstrap"),
    ];
    let missing = NEEDED.iter().filter(|(name, _)| program::find(name).is_none()).map(|(_, package)| *package);
    qemu().is_err().then_some("qemu-system-x86").into_iter().chain(missing).collect()
}

/// Whether guests can be made on this machine, as far as programs go.
///
/// # Errors
/// [`Error::Missing`] that names every Debian package to install.
pub fn programs() -> Result<()> {
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Missing(format!(
        "guests need what these Debian packages hold: {0}; apt-get install --no-install-recommends {0}",
        missing.join(" ")
    )))
}

/// Fetches and builds everything that the tests of this crate need of kernels and drivers, into the cache: about two
/// minutes on two cores when nothing is there.
///
/// # Errors
/// [`Error::Missing`] when this machine has not what it takes, or Debian cannot be reached and nothing is in the cache.
pub fn prepare(progress: &Progress) -> Result<()> {
    programs()?;
    for (line, flavour) in TESTED_KERNELS {
        let kernel = Kernel::ensure(line, flavour, progress)?;
        nics(&kernel, progress)?;
        for release in TESTED_RELEASES {
            Driver::stand_in(&kernel, release, progress)?;
        }
    }
    let (line, flavour) = OTHER_FLAVOUR;
    Driver::stand_in(&Kernel::ensure(line, flavour, progress)?, TESTED_RELEASES[0], progress)?;
    Uefi::ensure(progress).map(drop)
}
