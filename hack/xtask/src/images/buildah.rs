//! Calls of buildah.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use cxi_images::Image;

use super::{architecture::Architecture, layout, source::Source};
use crate::steps::{not_started, root};

/// buildah with a storage of its own: images of the user's are not touched, and no privilege is needed beyond that of user
/// namespaces.
#[derive(Debug)]
pub struct Buildah {
    storage: PathBuf,
}

impl Buildah {
    /// Makes sure that it is there.
    pub fn find() -> Result<Self> {
        let output = Command::new("buildah").arg("--version").output();
        output
            .map_err(|error| not_started("buildah", error))
            .context("images are built with buildah: apt-get install buildah, or dnf install buildah")?;
        Ok(Self { storage: layout::directory().join("storage") })
    }

    /// A command of it.
    pub fn command(&self, task: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.storage.join("root")).arg("--runroot").arg(self.storage.join("run"));
        // Copies instead of overlays: works on every file system, and images of one layer share nothing anyway.
        command.args(["--storage-driver", "vfs"]).args(task).current_dir(root());
        command
    }

    /// Runs a command and returns what it printed.
    pub fn run(&self, task: &[&str]) -> Result<String> {
        output(&mut self.command(task))
    }

    /// Builds an image of what is in `context` and writes its archive.
    pub fn build(&self, image: Image, arch: Architecture, source: &Source, context: &Path) -> Result<()> {
        let tag = format!("localhost/{image}:{}-{}", env!("CARGO_PKG_VERSION"), arch.name());
        let mut build = self.command(&["build", "--quiet", "--isolation", "chroot", "--format", "oci", "--no-cache"]);
        build.args(["--os", "linux", "--arch", arch.name(), "--tag", &tag]);
        // Neither time nor tool of the build leave a trace.
        build.args(["--timestamp", &source.epoch.to_string(), "--identity-label=false"]);
        build.arg("--build-arg").arg(format!("VERSION={}", env!("CARGO_PKG_VERSION")));
        build.arg("--build-arg").arg(format!("REVISION={}", source.revision));
        build.arg("--file").arg(root().join("images").join(format!("{image}.Containerfile"))).arg(context);
        output(&mut build)?;
        let archive = layout::archive(image, arch);
        // buildah adds to an archive that is there.
        if archive.exists() {
            fs::remove_file(&archive).with_context(|| format!("cannot replace {}", archive.display()))?;
        }
        let destination = format!("oci-archive:{}:{tag}", archive.display());
        self.run(&["push", "--quiet", &tag, &destination]).map(drop)
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| not_started("buildah", error))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
