//! What tests that build real driver images stand on where no registry can be reached: a builder image of Debian packages,
//! made on this machine once and kept in the cache, and the stand-in driver's source trees.
//!
//! Invariant: this crate asks no registry. What it builds comes from Debian's mirror and from this repository.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use cxi_api::KernelModule;
use cxi_control_plane::{Progress, cache};
use cxi_driver_image_builder::{
    build::{Built, Inputs, Recipe},
    buildah::{Buildah, said},
    source::Source,
    storage::Use,
};
use cxi_driver_image_format::KernelName;
use sha2::{Digest, Sha256};

/// Release of Debian that the builder is of.
const SUITE: &str = "bookworm";

/// Packages of the builder beyond the least: what `scripts/tools-debian.sh` would install.
const PACKAGES: &str =
    "ca-certificates,dkms,kmod,make,gcc,libc6-dev,pahole,binutils,busybox-static,xz-utils,zstd,curl,git,unzip";

/// Where packages come from.
const SOURCES: &str = "deb http://deb.debian.org/debian bookworm main\n\
                       deb http://security.debian.org/debian-security bookworm-security main\n";

/// Trees with modules, each after those that it needs.
const TREES: [&str; 3] = ["cray-slingshot-base-link", "sl-driver", "cray-cxi-driver"];

/// Modules that come out of them, sorted.
pub const STACK: [&str; 5] = KernelModule::names([
    KernelModule::CxiEth,
    KernelModule::CxiSbl,
    KernelModule::CxiSl,
    KernelModule::CxiSs1,
    KernelModule::CxiUser,
]);

/// Where such images are built.
#[derive(Debug)]
pub struct Lab {
    /// Where images are kept: apart from the user's.
    pub buildah: Buildah,
    /// The builder image.
    pub builder: String,
    /// Keeps what is made until this is dropped.
    pub held: Use,
}

impl Lab {
    /// The lab of this machine; the first time takes half a minute.
    ///
    /// # Errors
    /// If buildah or mmdebstrap is missing, or Debian cannot be reached.
    pub fn ensure(progress: &Progress) -> Result<Self> {
        let place = cache::directory()?.join("driver-images");
        // Works also inside containers and without a user session.
        let buildah = Buildah { storage: Some(place.join("storage")), isolation: Some("chroot".to_owned()) };
        let hash = format!("{:x}", Sha256::digest(["mmdebstrap", SUITE, PACKAGES, SOURCES].concat()));
        let builder = format!("localhost/cxi-test-builder:{}", &hash[..12]);
        let _lock = cache::Lock::acquire(&place.join("builder"), progress)?;
        let held = Use::begin(&buildah)?;
        if buildah.inspect(&builder)?.is_none() {
            let step = progress.step("making a builder image of Debian packages");
            make_builder(&buildah, &place, &builder)?;
            step.done();
        }
        Ok(Self { buildah, builder, held })
    }

    /// A recipe of these inputs, into a repository and a directory of logs of its own.
    pub fn recipe(&self, inputs: Inputs, repository: &str, logs: &Path) -> Recipe {
        Recipe {
            inputs,
            repository: format!("localhost/{repository}"),
            builder_image: Some(self.builder.clone()),
            // Generated sources are new each time.
            epoch: Some(1_700_000_000),
            offline: true,
            logs: logs.to_owned(),
            ..Recipe::default()
        }
    }

    /// The image of a release of the stand-in. Whoever asks a second time for the same kernel, in whichever test, gets what was
    /// built the first time, in seconds.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn stand_in(&self, release: &str, kernel: &KernelName, logs: &Path) -> Result<Built> {
        let sources = StandIn::generate(release)?;
        let recipe =
            Recipe { modules: STACK.map(str::to_owned).into(), ..self.recipe(sources.inputs()?, "cxi-test", logs) };
        Ok(recipe.build(&self.buildah, release, kernel)?)
    }
}

fn make_builder(buildah: &Buildah, place: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
    let root =
        tempfile::tempdir_in(place).with_context(|| format!("cannot create a directory in {}", place.display()))?;
    let include = format!("--include={PACKAGES}");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    mmdebstrap.args(["--quiet", "--variant=minbase", &include, SUITE]).arg(root.path()).args(SOURCES.lines());
    said(&mut mmdebstrap, "mmdebstrap", "mmdebstrap")?;
    let container = buildah.run(["from", "scratch"])?.trim().to_owned();
    let path = root.path().display().to_string();
    buildah.run(["copy", "--quiet", &container, &path, "/"])?;
    buildah.run(["commit", "--quiet", "--rm", &container, name])?;
    Ok(())
}

/// The stand-in's source trees of a release.
#[derive(Debug)]
pub struct StandIn {
    directory: tempfile::TempDir,
    release: String,
}

impl StandIn {
    /// Writes them.
    ///
    /// # Errors
    /// If there is no room, or no shell to write them with.
    pub fn generate(release: &str) -> Result<Self> {
        Self::write("--separate-headers", release)
    }

    fn write(how: &str, release: &str) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
        let generate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../driver-images/stand-in/generate");
        let mut command = Command::new(generate);
        said(command.args([how, release]).arg(directory.path()), "the stand-in's generator", "dash")?;
        Ok(Self { directory, release: release.to_owned() })
    }

    /// Writes them as a vendor publishes them: they build by the layout beside them.
    ///
    /// # Errors
    /// See [`StandIn::generate`].
    pub fn published(release: &str) -> Result<Self> {
        Self::write("--as-published", release)
    }

    /// The layout of trees as they are published.
    pub fn layout(&self) -> PathBuf {
        self.directory.path().join("layout.yaml")
    }

    /// A tree.
    pub fn tree(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}-{}", self.release))
    }

    /// All of them as inputs of a build, in the order of their dependencies.
    ///
    /// # Errors
    /// If the path of the temporary directory cannot be part of a source.
    pub fn inputs(&self) -> Result<Inputs> {
        let source = |name: &str| {
            let text = format!("{name}={}", self.tree(name).display());
            text.parse::<Source>().with_context(|| format!("cannot build from {text}"))
        };
        Ok(Inputs {
            sources: TREES.into_iter().map(source).collect::<Result<_>>()?,
            headers: vec![source("cassini-headers")?],
            ..Inputs::default()
        })
    }
}
