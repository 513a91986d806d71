//! `cargo xtask driver-image list-kernels`

use anyhow::{Result, ensure};
use clap::Args;
use cxi_driver_image_builder::{
    cluster::{Kernel, Question, images, kernels, wanted},
    kernels::{NODES_RUN, line},
    push::Tls,
    registry,
};

/// Lists the kernels that a cluster's nodes run, and which of their driver images the registry does not have
///
/// Asks the cluster with kubectl and the registry with skopeo. Image and release are those of --driver, or of --image and
/// --driver-version, for instance of a release that is still to come.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct ListKernels {
    /// Ask the cluster that kubectl talks to; there is no other source yet, so this must be given
    #[arg(long)]
    from_cluster: bool,
    /// Kubeconfig, when not kubectl's own choice
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// CXIDriver whose nodes, image and release are meant
    #[arg(long, value_name = "NAME")]
    driver: Option<String>,
    /// Label selector of nodes; those of --driver, else those with a Slingshot NIC, when left out
    #[arg(long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Repository of the images
    #[arg(long, value_name = "REPOSITORY")]
    image: Option<String>,
    /// Driver release
    #[arg(long, value_name = "VERSION")]
    driver_version: Option<String>,
    /// Print only the kernels without an image, one per line, each with what its nodes run, for `matrix --kernels-from -`
    #[arg(long)]
    missing: bool,
    /// Do not ask the registry
    #[arg(long, conflicts_with = "missing")]
    no_registry: bool,
    /// Accept plain HTTP and certificates of unknown authorities
    #[arg(long)]
    insecure: bool,
}

impl ListKernels {
    pub fn run(&self) -> Result<()> {
        ensure!(self.from_cluster, "say where from: --from-cluster asks the cluster that kubectl talks to");
        let question = Question {
            kubeconfig: self.kubeconfig.clone(),
            driver: self.driver.clone(),
            selector: self.selector.clone(),
        };
        let mut wanted = wanted(&question)?;
        wanted.repository = self.image.clone().or(wanted.repository);
        wanted.version = self.driver_version.clone().or(wanted.version);
        let known = wanted.repository.is_some() && wanted.version.is_some();
        ensure!(
            known || !self.missing,
            "which images are missing cannot be told without a repository and a release: give --driver, or --image and \
             --driver-version"
        );
        let found = kernels(&question, &wanted.selector)?;
        ensure!(!found.is_empty(), "no node carries the labels {}: check --driver or --selector", wanted.selector);
        let tags = match &wanted.repository {
            Some(repository) if known && !self.no_registry => {
                Some(registry::tags(repository, Tls { insecure: self.insecure })?)
            }
            _ => None,
        };
        let rows = images(found, &wanted, tags.as_ref())?;
        if self.missing {
            rows.iter()
                .filter(|row| row.exists == Some(false))
                .for_each(|row| println!("{}", line(&row.kernel, &row.os)));
        } else {
            print!("{}", table(&rows));
        }
        Ok(())
    }
}

fn table(rows: &[Kernel]) -> String {
    let width = rows.iter().map(|row| row.kernel.len()).max().unwrap_or_default().max("KERNEL".len());
    let state = |row: &Kernel| match row.exists {
        Some(true) => "there",
        Some(false) => "missing",
        None => "not asked",
    };
    let image = |row: &Kernel| row.image.clone().unwrap_or_else(|| "-".to_owned());
    let wide = rows.iter().map(|row| image(row).len()).max().unwrap_or_default().max("IMAGE".len());
    let line = |row: &Kernel| {
        format!("{:width$}  {:>5}  {:9}  {:wide$}  {}\n", row.kernel, row.nodes, state(row), image(row), row.os)
    };
    format!("{:width$}  NODES  STATE      {:wide$}  {NODES_RUN}\n", "KERNEL", "IMAGE")
        + &rows.iter().map(line).collect::<String>()
}
