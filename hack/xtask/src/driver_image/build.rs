//! `cargo xtask driver-image build` and `matrix`

use std::{io::Read, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use cxi_control_plane::{Progress, Step};
use cxi_driver_image_builder::{
    buildah::Buildah,
    kernels::{Systems, parse},
    matrix,
};
use cxi_driver_image_format::KernelName;

use super::recipe::Options;

/// Builds the driver image of one release for one kernel
///
/// In a builder image with that kernel's headers, DKMS builds and installs the source trees in the order given. What comes
/// out is checked (vermagic, symbol versions, manifest) and only then gets its name. The same inputs give the same layers.
#[derive(Debug, Args)]
pub struct Build {
    /// Driver release, as it will be in spec.version of a CXIDriver
    #[arg(long, value_name = "VERSION")]
    driver_version: String,
    /// Kernel as `uname -r` prints it on the nodes, flavour included
    #[arg(long, value_name = "KERNEL")]
    kernel: KernelName,
    #[command(flatten)]
    options: Options,
}

impl Build {
    pub fn run(&self, buildah: &Buildah) -> Result<()> {
        let recipe = self.options.recipe()?;
        let progress = Progress::stderr();
        let step = progress.step(&format!("{} for {}", self.driver_version, self.kernel));
        let tell = |what: &str| step.goes_on_with(what);
        let built = recipe.build_and_tell(buildah, &self.driver_version, &self.kernel, &tell)?;
        step.done();
        built.warnings.iter().for_each(|warning| progress.note(&format!("warning: {}: {warning}", built.reference)));
        println!("{}", built.reference);
        Ok(())
    }
}

/// Builds the driver images of several releases for several kernels, several at a time
///
/// Images that are there already are left alone. A failure does not stop the others; at the end all failures are shown,
/// each with the path of DKMS's make.log.
#[derive(Debug, Args)]
pub struct Matrix {
    /// Driver releases, separated by commas; {version} in a --source stands for each
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',', required = true)]
    driver_version: Vec<String>,
    /// Kernels as `uname -r` prints them, separated by commas
    #[arg(long, value_name = "KERNELS", value_delimiter = ',', required_unless_present = "kernels_from")]
    kernel: Vec<KernelName>,
    /// File with a kernel per line, and behind it what its nodes run, such as `list-kernels --missing` prints; - for standard input
    #[arg(long, value_name = "FILE")]
    kernels_from: Option<PathBuf>,
    /// Builds at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    #[command(flatten)]
    options: Options,
}

impl Matrix {
    pub fn run(&self, buildah: &Buildah) -> Result<()> {
        let mut recipe = self.options.recipe()?;
        let mut kernels = self.kernel.clone();
        if let Some(file) = &self.kernels_from {
            for (kernel, system) in read_kernels(file)? {
                recipe.systems.extend(system.map(|system| (kernel.clone(), system)));
                kernels.push(kernel);
            }
        }
        kernels.sort();
        kernels.dedup();
        if kernels.is_empty() {
            // `list-kernels --missing` lists what has no image yet.
            println!("the list of kernels is empty: every image exists already");
            return Ok(());
        }
        matrix::check(&self.driver_version, &kernels)?;
        let outcomes =
            matrix::run(&recipe, buildah, &self.driver_version, &kernels, self.jobs, &Shown(Progress::stderr()));
        print!("{}", matrix::summary(&outcomes));
        let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
        if failed > 0 {
            bail!("{failed} of {} images could not be built; see above", outcomes.len());
        }
        Ok(())
    }
}

/// Shows the builds of a matrix on standard error.
struct Shown(Progress);

impl matrix::Progress for Shown {
    fn note(&self, line: &str) {
        self.0.note(line);
    }

    fn begin(&self, what: &str) -> Box<dyn matrix::Step> {
        Box::new(ShownStep(self.0.step(what)))
    }
}

/// A build that [`Shown`] shows.
struct ShownStep(Step);

impl matrix::Step for ShownStep {
    fn goes_on_with(&self, part: &str) {
        self.0.goes_on_with(part);
    }

    fn done(self: Box<Self>) {
        self.0.done();
    }
}

fn read_kernels(file: &PathBuf) -> Result<Systems> {
    let text = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read kernels from standard input")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read kernels from {}", file.display()))?
    };
    Ok(parse(&text)?)
}
