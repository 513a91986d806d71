//! The programs in the images, and the papers that go with them.

use std::{
    env, fs,
    path::{Path, PathBuf, absolute},
    process::Command,
};

use anyhow::{Context, Result};
use cxi_images::Image;

use super::{architecture::Architecture, layout, source::Source};
use crate::steps::{Steps, cargo, root, target};

/// Programs that were built.
#[derive(Debug)]
pub struct Programs(PathBuf);

/// Builds the programs of images: static, without paths of this machine in them.
pub fn build(steps: &mut Steps, images: &[Image], arch: Architecture, profile: &str) -> Result<Programs> {
    let mut build = cargo(&["build", "--locked", "--profile", profile, "--target", arch.target()]);
    for image in images {
        build.args(["--package", image.name()]);
        for program in image.programs() {
            build.args(["--bin", program]);
        }
    }
    // Wins over what the user set, which is kept by putting it in front.
    let flags = [env::var("RUSTFLAGS").unwrap_or_default(), flags()?].join(" ");
    build.env("RUSTFLAGS", flags.trim()).env_remove("CARGO_ENCODED_RUSTFLAGS");
    arch.configure(&mut build);
    let step = format!("static programs, profile {profile}");
    steps.run(&step, &mut build, "see the compiler's message above")?;
    let directory = if profile == "dev" { "debug" } else { profile };
    Ok(Programs(target().join(arch.target()).join(directory)))
}

/// `+crt-static` puts the C library into the programs (rustc book, "static and dynamic C runtimes"). Their addresses are
/// relocated when they start, for which packed relocations need a hundredth of the space: 1.5 MB less for the operator. Messages
/// of panics name source files, which must not depend on where they lay.
fn flags() -> Result<String> {
    let root = fs::canonicalize(root()).context("find the root of the repository")?;
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo"))).context("find the home of cargo")?;
    Ok(format!(
        "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs \
         --remap-path-prefix={}=/cargo --remap-path-prefix={}=/source",
        home.display(),
        root.display()
    ))
}

/// Writes bills of materials and licences of the programs, by means of `sbom`.
pub fn bills(
    steps: &mut Steps,
    mut sbom: Command,
    images: &[Image],
    arch: Architecture,
    source: &Source,
) -> Result<()> {
    let output = absolute(layout::bills(arch)).context("find the directory for bills")?;
    sbom.args(["--target", arch.target(), "--timestamp", &source.time]).arg("--output").arg(output);
    for image in images {
        sbom.args(["--package", image.name()]);
    }
    steps.run("bills of materials", &mut sbom, "see the message above")
}

impl Programs {
    /// Where they are.
    pub fn directory(self) -> PathBuf {
        self.0
    }

    /// Copies what an image is made of into one directory, which has nothing else in it.
    pub fn lay_out(&self, image: Image, arch: Architecture, context: &Path) -> Result<()> {
        if context.exists() {
            fs::remove_dir_all(context).with_context(|| format!("cannot empty {}", context.display()))?;
        }
        fs::create_dir_all(context).with_context(|| format!("cannot create {}", context.display()))?;
        let bills = layout::bills(arch);
        let papers = [format!("{image}.cdx.json"), format!("{image}.licences.txt")].map(|name| bills.join(name));
        let programs = image.programs().iter().map(|program| self.0.join(program));
        for path in programs.chain(papers).chain([root().join("LICENSE")]) {
            let name = path.file_name().context("a file has a name")?;
            fs::copy(&path, context.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
        }
        Ok(())
    }
}
