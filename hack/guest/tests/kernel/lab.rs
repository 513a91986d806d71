//! What the tests share: kernels, roots, the API server; and no more guests at once than a small machine bears.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    sync::{Condvar, LazyLock, Mutex},
};

use cxi_control_plane::{ControlPlane, Family, Options, Progress, Tool, Toolbox};
use cxi_guest::{Driver, Flavour, Kernel, Line, Node, Tree};
use tempfile::TempDir;

pub use cxi_guest::TESTED_KERNELS as KERNELS;

/// The releases that every guest has images of.
pub const A: &str = cxi_guest::TESTED_RELEASES[0];
pub const B: &str = cxi_guest::TESTED_RELEASES[1];

/// As many guests at once as there are processors, at least two.
static FREE: LazyLock<(Mutex<usize>, Condvar)> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    (Mutex::new(processors.clamp(2, 4)), Condvar::new())
});

/// The right to have a guest.
pub struct Slot;

impl Slot {
    pub fn take() -> Self {
        let (free, freed) = &*FREE;
        let mut free = freed.wait_while(free.lock().unwrap(), |free| *free == 0).unwrap();
        *free -= 1;
        Self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (free, freed) = &*FREE;
        *free.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
        freed.notify_one();
    }
}

/// The API server that agents report to. It ends with this process.
pub static PLANE: LazyLock<ControlPlane> = LazyLock::new(|| {
    let toolbox = Toolbox::ensure(&[Family::Etcd, Family::Kubernetes], &Progress::stderr()).unwrap();
    let plane = ControlPlane::start(&toolbox, &Options::default()).unwrap();
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    plane.kubectl(&["apply", "--server-side", "-f", &crds.to_string_lossy()]).unwrap();
    plane.kubectl(&["wait", "--for=condition=Established", "crd/cxinodes.cxi.hpe.com"]).unwrap();
    plane
});

pub fn kernel((line, flavour): (Line, Flavour)) -> Kernel {
    Kernel::ensure(line, flavour, &Progress::stderr()).unwrap()
}

/// A program that cargo has built beside this test.
fn built(name: &str) -> PathBuf {
    let this = env::current_exe().unwrap();
    let file = this.ancestors().nth(2).unwrap().join(name);
    assert!(file.is_file(), "{} is missing: cargo build --workspace --bins", file.display());
    file
}

/// The root of a node with everything that a test may want.
pub fn tree(kernel: &Kernel) -> Tree {
    tree_with(kernel, &[A, B])
}

/// The same without the usual driver images.
pub fn tree_without_images(kernel: &Kernel) -> Tree {
    tree_with(kernel, &[])
}

fn tree_with(kernel: &Kernel, releases: &[&str]) -> Tree {
    let worker = Toolbox::ensure(&[Family::KmmWorker], &Progress::stderr()).unwrap();
    let programs = vec![
        built("cxi-agent"),
        built("cxi-device-plugin"),
        built("cxi-cdi-generator"),
        worker.path(Tool::KmmWorker).unwrap().to_path_buf(),
    ];
    let releases = releases.iter().map(|&release| release.to_owned()).collect();
    Node { releases, programs }.tree(kernel, &Progress::stderr()).unwrap()
}

/// The initrds of this run, which many tests share.
static INITRDS: LazyLock<(TempDir, Mutex<BTreeMap<String, PathBuf>>)> =
    LazyLock::new(|| (tempfile::tempdir().unwrap(), Mutex::default()));

/// The initrd of [`tree`].
pub fn initrd(kernel: &Kernel) -> PathBuf {
    let (directory, made) = &*INITRDS;
    let mut made = made.lock().unwrap();
    let file = directory.path().join(&kernel.release);
    made.entry(kernel.release.clone())
        .or_insert_with(|| {
            tree(kernel).write_initrd(&file).unwrap();
            file
        })
        .clone()
}

/// The stand-in driver of `release` for `kernel`.
pub fn driver(kernel: &Kernel, release: &str) -> Driver {
    Driver::stand_in(kernel, release, &Progress::stderr()).unwrap()
}
