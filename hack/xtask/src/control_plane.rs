//! `cargo xtask control-plane up`

use std::{
    io::Write,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use cxi_control_plane::{ControlPlane, Family, NAMESPACE, Options, Tool};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::tools;

/// How soon Ctrl-C or a server that died is noticed.
const CHECK: Duration = Duration::from_millis(100);

/// Runs a real Kubernetes control plane on this machine
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Up),
}

/// Starts one on free loopback ports and runs it until Ctrl-C
///
/// etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KMM, with data in a temporary directory.
/// Everything stops and the data goes when this process ends, in whatever way. Several may run side by side.
#[derive(Debug, Args)]
struct Up {
    /// Leave KMM out
    #[arg(long)]
    no_kmm: bool,
    /// Write an audit log: writes with their bodies, reads by their metadata
    #[arg(long)]
    audit: bool,
    /// Leave the data directory with all logs behind
    #[arg(long)]
    keep_data: bool,
    /// One more argument for kube-apiserver, as in --apiserver-arg=--v=4; may be repeated
    #[arg(long = "apiserver-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    apiserver_args: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Command::Up(up) = &arguments.command;
    let families = if up.no_kmm { &[Family::Etcd, Family::Kubernetes] } else { Family::CONTROL_PLANE };
    let toolbox = tools::ensure(families)?;
    // Not needed for the end of the children, which end when this process does: for a script that waits until all
    // are gone, and for one that starts this in the background, where shells ignore SIGINT.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for Ctrl-C")?;
    let since = Instant::now();
    let apiserver_args = up.apiserver_args.clone();
    let options = Options { audit: up.audit, keep_data: up.keep_data, apiserver_args, ..Options::default() };
    let plane = ControlPlane::start(&toolbox, &options)?;
    if !up.no_kmm {
        plane.install_kmm()?;
        plane.start_kmm()?;
    }
    eprintln!("control plane at {} ready after {:.1} s", plane.server_url(), since.elapsed().as_secs_f64());
    eprintln!("kubeconfig: {}", plane.kubeconfig().display());
    eprintln!("logs:       {}", plane.data_dir().display());
    eprintln!("kubectl:    {}", toolbox.path(Tool::Kubectl)?.display());
    if !up.no_kmm {
        eprintln!("KMM runs for the namespace {NAMESPACE}");
    }
    eprintln!("in another terminal:");
    // The one line on standard output, for scripts.
    let mut stdout = std::io::stdout();
    writeln!(stdout, "export KUBECONFIG={}", plane.kubeconfig().display())
        .and_then(|()| stdout.flush())
        .context("cannot print the kubeconfig's path")?;
    eprintln!("Ctrl-C stops everything");
    while signals.pending().next().is_none() {
        plane.check()?;
        sleep(CHECK);
    }
    drop(plane);
    eprintln!("stopped");
    Ok(())
}
