//! What images are built from: the options that `build` and `matrix` share.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use cxi_control_plane::cache;
use cxi_driver_image_builder::{
    architecture::Architecture,
    build::{Inputs, Recipe},
    source::Source,
};
use cxi_driver_image_format::base::Distro;

/// The repository that images are built into unless the user says otherwise.
pub const REPOSITORY: &str = "localhost/cxi-driver";

#[derive(Debug, Args)]
pub struct Options {
    /// A DKMS source tree, as [NAME=]LOCATION[#sha256=SUM][#dir=DIRECTORY]; several are built in this order
    ///
    /// LOCATION is a directory, an archive (.tar.gz, .tar.xz, .tar.zst, .zip) or the URL of an archive. Each tree is built
    /// and installed by DKMS before the next one, which may need its symbols and headers. NAME is the DKMS package, needed
    /// only where the tree has a dkms.conf.in that does not say. SUM is the archive's SHA-256: anything else is refused.
    /// DIRECTORY is where in the tree dkms.conf is, when not at its top.
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<Source>,
    /// A tree that only has headers, such as cassini-headers, written like --source; its include directory goes to
    /// /usr/include of the builder before anything is built
    #[arg(long, value_name = "SOURCE")]
    headers: Vec<Source>,
    /// A file that lists the trees of a release, their order, and what is copied where before they are built; instead of --source
    /// and --headers
    ///
    /// docs/driver-images.md shows one. {version} in it stands for the release.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sources", "headers"])]
    layout: Option<PathBuf>,
    /// Firmware files that the modules ask for, below /opt/lib/firmware, separated by commas; an image without one of them gets a
    /// warning
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    needs_firmware: Vec<String>,
    /// Firmware files, written like --source; they go to /opt/lib/firmware in the image (source.modprobe.firmwarePath)
    #[arg(long, value_name = "SOURCE")]
    firmware: Option<Source>,
    /// Repository to build into, without tag; the tag is <version>-<kernel>, with + written as _
    #[arg(long, value_name = "REPOSITORY", default_value = REPOSITORY)]
    pub image: String,
    /// Whose kernel it is, as NAME:RELEASE: debian, ubuntu, rhel or sles, such as ubuntu:22.04; told by what the nodes say of
    /// themselves (list-kernels hands it on) or by the kernel's name when left out, where that is sure
    #[arg(long, value_name = "DISTRO")]
    distro: Option<Distro>,
    /// Architecture, amd64 or arm64; what the kernel's name tells when left out, else this machine's. Another one than this
    /// machine's needs qemu-user-static
    #[arg(long, value_name = "ARCH")]
    arch: Option<Architecture>,
    /// Image to build in, with the distribution's compiler; the distribution's public image when left out
    #[arg(long, value_name = "IMAGE")]
    builder_image: Option<String>,
    /// Image to put the modules on; scratch with a static busybox on Debian and Ubuntu when left out, else a micro image
    #[arg(long, value_name = "IMAGE")]
    runtime_image: Option<String>,
    /// Headers of a kernel that no repository has: .deb or .rpm packages (give the kernel's own package too), or one
    /// directory as /lib/modules/<kernel>/build
    #[arg(long, value_name = "PATH")]
    kernel_headers: Vec<PathBuf>,
    /// A line for the builder's package sources: a deb line, or the lines of a .repo file
    #[arg(long, value_name = "LINE")]
    package_source: Vec<String>,
    /// Private key (PEM, without passphrase) to sign the modules with; needs --signing-certificate
    #[arg(long, value_name = "FILE", requires = "signing_certificate")]
    signing_key: Option<PathBuf>,
    /// Certificate of --signing-key, PEM or DER; nodes must trust it
    #[arg(long, value_name = "FILE", requires = "signing_key")]
    signing_certificate: Option<PathBuf>,
    /// Modules that must come out, as lsmod prints them, separated by commas; whatever the sources build when left out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    modules: Vec<String>,
    /// Date written into the image, in seconds since 1970; that of the newest source file when left out
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    timestamp: Option<u64>,
    /// Build everything anew, also the layers with tools and headers
    #[arg(long)]
    no_cache: bool,
    /// Never ask a registry for the builder image
    #[arg(long)]
    offline: bool,
    /// Where outputs of builds and DKMS's make.log are kept; a directory of the cache when left out
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
}

impl Options {
    pub fn recipe(&self) -> Result<Recipe> {
        if self.sources.is_empty() && self.layout.is_none() {
            bail!(
                "there is nothing to build: give --layout FILE, which lists the trees of a release, or at least one --source SOURCE"
            );
        }
        if self.image.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
            bail!("--image {} has a tag: give the repository alone, the tag is made of version and kernel", self.image);
        }
        let logs = match &self.logs {
            Some(logs) => std::path::absolute(logs)?,
            None => cache::directory()?.join("driver-images/logs"),
        };
        Ok(Recipe {
            inputs: Inputs {
                sources: self.sources.clone(),
                headers: self.headers.clone(),
                firmware: self.firmware.clone(),
                layout: self.layout.clone(),
                needs_firmware: self.needs_firmware.clone(),
                kernel_headers: self.kernel_headers.clone(),
                package_sources: self.package_source.clone(),
            },
            repository: self.image.clone(),
            distro: self.distro.clone(),
            systems: BTreeMap::new(),
            builder_image: self.builder_image.clone(),
            runtime_image: self.runtime_image.clone(),
            arch: self.arch,
            signing: self.signing_key.clone().zip(self.signing_certificate.clone()),
            modules: self.modules.iter().map(|name| name.replace('-', "_")).collect(),
            epoch: self.timestamp,
            no_cache: self.no_cache,
            offline: self.offline,
            logs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn without_sources_both_ways_to_give_them_are_named() {
        let options = Program::try_parse_from(["build"]).ok().unwrap().options;
        let error = options.recipe().unwrap_err().to_string();
        assert!(error.contains("--layout FILE") && error.contains("--source SOURCE"), "{error}");
        for given in [["build", "--source", "tree"], ["build", "--layout", "stack.yaml"]] {
            Program::try_parse_from(given).ok().unwrap().options.recipe().unwrap();
        }
    }
}
