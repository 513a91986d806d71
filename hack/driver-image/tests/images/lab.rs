//! What the tests that really build stand on: a builder image of Debian packages, made here once, and a Debian kernel that
//! can be had today. Everything is kept in the cache directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use cxi_control_plane::{Progress, cache};
use cxi_driver_image::{
    build::{Inputs, Recipe},
    buildah::Buildah,
    storage::Use,
};
use cxi_driver_images::KernelName;
use sha2::{Digest, Sha256};

/// Release of Debian that the builder is of.
const SUITE: &str = "bookworm";

/// Packages of the builder beyond the least: what `scripts/tools-debian.sh` would install.
const PACKAGES: &str =
    "ca-certificates,dkms,kmod,make,gcc,libc6-dev,pahole,binutils,busybox-static,xz-utils,zstd,curl,git,unzip";

/// Where packages come from.
const SOURCES: &str = "deb http://deb.debian.org/debian bookworm main\n\
                       deb http://security.debian.org/debian-security bookworm-security main\n";

/// The lab of this process.
pub struct Lab {
    /// Where images are kept.
    pub buildah: Buildah,
    /// The builder image.
    pub builder: String,
    /// A kernel whose headers Debian has.
    pub kernel: KernelName,
    /// Keeps what the tests make until they have ended.
    pub held: Use,
}

/// The lab; made when first asked for.
pub fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        for (program, package) in [("buildah", "buildah"), ("mmdebstrap", "mmdebstrap")] {
            let there =
                Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
            let path = Path::new("/usr/sbin").join(program);
            assert!(
                there.unwrap().success() || path.exists(),
                "these tests build images and need {program}: apt-get install {package}"
            );
        }
        let place = cache::directory().unwrap().join("driver-images");
        // Works also inside containers and without a user session.
        let buildah = Buildah { storage: Some(place.join("storage")), isolation: Some("chroot".to_owned()) };
        let hash = format!("{:x}", Sha256::digest(["mmdebstrap", SUITE, PACKAGES, SOURCES].concat()));
        let builder = format!("localhost/cxi-test-builder:{}", &hash[..12]);
        let _lock = cache::Lock::acquire(&place.join("builder"), &Progress::stderr()).unwrap();
        let held = Use::begin(&buildah).unwrap();
        if buildah.inspect(&builder).unwrap().is_none() {
            make_builder(&buildah, &place, &builder);
        }
        let kernel = newest_kernel(&buildah, &builder);
        remove_replaced(&buildah, &builder, &kernel);
        Lab { buildah, builder, kernel, held }
    })
}

fn make_builder(buildah: &Buildah, place: &Path, name: &str) {
    fs::create_dir_all(place).unwrap();
    let root = tempfile::tempdir_in(place).unwrap();
    let include = format!("--include={PACKAGES}");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    mmdebstrap.args(["--quiet", "--variant=minbase", &include, SUITE]).arg(root.path()).args(SOURCES.lines());
    assert!(mmdebstrap.status().unwrap().success(), "mmdebstrap failed; see above");
    let container = buildah.run(["from", "scratch"]).unwrap().trim().to_owned();
    let path = root.path().display().to_string();
    buildah.run(["copy", "--quiet", &container, &path, "/"]).unwrap();
    buildah.run(["commit", "--quiet", "--rm", &container, name]).unwrap();
}

/// Debian keeps only the last few kernels, so which there are is asked anew each time.
fn newest_kernel(buildah: &Buildah, builder: &str) -> KernelName {
    let container = buildah.run(["from", "--pull-never", builder]).unwrap().trim().to_owned();
    let ask = "apt-get update -qq >&2 && apt-cache depends linux-headers-cloud-$(dpkg --print-architecture)";
    let answer = buildah.run(["run", "--isolation", "chroot", &container, "--", "sh", "-c", ask]);
    buildah.run(["rm", &container]).unwrap();
    let answer = answer.expect("the builder asks Debian's mirror which kernels there are");
    let package = answer.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-headers-"));
    package.expect("the package of the newest headers depends on those of a kernel").parse().unwrap()
}

/// Removes the names of images that tests made for an older kernel or in an older builder. Tests of another process have the
/// same kernel and the same builder.
fn remove_replaced(buildah: &Buildah, builder: &str, kernel: &KernelName) {
    let names = buildah.run(["images", "--filter", "dangling=false", "--format", "{{.Name}}:{{.Tag}}"]).unwrap();
    let replaced = |name: &&str| match name.strip_prefix("localhost/cxi-test") {
        Some(rest) if rest.starts_with("-builder:") => *name != builder,
        Some(rest) => rest.contains(":13.") && !rest.ends_with(&kernel.in_tag()),
        None => false,
    };
    for name in names.lines().filter(replaced) {
        buildah.run(["rmi", name]).unwrap();
    }
}

/// The stand-in's source trees of a release, in the order of their dependencies.
pub struct StandIn {
    directory: tempfile::TempDir,
    release: String,
}

impl StandIn {
    /// Writes them.
    pub fn generate(release: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let generate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../driver-images/stand-in/generate");
        let mut command = Command::new(generate);
        command.args(["--separate-headers", release]).arg(directory.path());
        assert!(command.status().unwrap().success());
        Self { directory, release: release.to_owned() }
    }

    /// A tree.
    pub fn tree(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}-{}", self.release))
    }

    /// All of them as inputs of a build.
    pub fn inputs(&self) -> Inputs {
        let source = |name: &str| format!("{name}={}", self.tree(name).display()).parse().unwrap();
        Inputs {
            sources: ["cray-slingshot-base-link", "sl-driver", "cray-cxi-driver"].map(source).into(),
            headers: vec![source("cassini-headers")],
            ..Inputs::default()
        }
    }
}

impl Lab {
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
}
