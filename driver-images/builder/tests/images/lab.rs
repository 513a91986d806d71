//! What the tests that really build stand on: the lab, and a Debian kernel that can be had today.

use std::{ops::Deref, sync::OnceLock};

use cxi_control_plane::Progress;
use cxi_driver_image_builder::buildah::Buildah;
use cxi_driver_image_format::KernelName;
use cxi_driver_image_lab as lab;

pub use cxi_driver_image_lab::StandIn;

/// The lab of this process.
pub struct Lab {
    lab: lab::Lab,
    /// A kernel whose headers Debian has.
    pub kernel: KernelName,
}

impl Deref for Lab {
    type Target = lab::Lab;

    fn deref(&self) -> &lab::Lab {
        &self.lab
    }
}

impl Lab {
    /// A text without the kernel's name, which is another one next month.
    pub fn without_kernel(&self, text: &str) -> String {
        text.replace(self.kernel.as_str(), "KERNEL").replace(&self.kernel.in_tag(), "KERNEL")
    }
}

/// A date that no build had, so that no layer of an earlier one is taken and each step prints what it does.
pub fn another_date() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// The lab; made when first asked for.
pub fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let lab = lab::Lab::ensure(&Progress::stderr()).unwrap();
        let kernel = newest_kernel(&lab.buildah, &lab.builder);
        remove_replaced(&lab.buildah, &lab.builder, &kernel);
        Lab { lab, kernel }
    })
}

/// Debian keeps only the last few kernels, so which there are is asked anew each time. Of the line and flavour that guests load
/// such images on, so that they are built once for all tests.
fn newest_kernel(buildah: &Buildah, builder: &str) -> KernelName {
    let container = buildah.run(["from", "--pull-never", builder]).unwrap().trim().to_owned();
    let ask = "apt-get update -qq >&2 && apt-cache depends linux-headers-6.12-cloud-$(dpkg --print-architecture)";
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
