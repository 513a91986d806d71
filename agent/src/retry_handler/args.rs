//! Flags of the supervisor.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use cxi_hardware::NicName;
use cxi_node::log::{self, Format};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    flags::{NodeRoot, at_least_a_moment},
    retry_handler::{
        process::Program,
        ready, restart,
        supervisor::{Config, Orders, run},
    },
};

/// Run one retry handler (`cxi_rh`) for each physical NIC of this node.
///
/// SIGTERM and SIGINT ask each of them to end, and this ends when all have; nothing is ever killed. SIGHUP has each of
/// them write its state to the log. One that ends unasked is not started again, see `restart`. A NIC for which
/// another program runs a retry handler is left alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Option<Task>,

    #[command(flatten)]
    root: NodeRoot,

    /// The program. It has to be of the driver's release.
    #[arg(long, env = "CXI_RH", default_value = "/usr/bin/cxi_rh", value_name = "FILE")]
    cxi_rh: PathBuf,

    /// Configuration of the program; left out, its own default. `rh_stats_dir` in it has to stay /run/cxi.
    #[arg(long, env = "CXI_RH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Time between two looks at the NICs.
    #[arg(long, env = "CXI_RETRY_HANDLER_INTERVAL", default_value = "1s", value_parser = at_least_a_moment)]
    interval: Duration,

    /// Form of the log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = Format::Json)]
    log_format: Format,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// End with status 0 if every physical NIC has a retry handler and none failed, else say what is missing.
    Ready,
    /// Start another retry handler for a NIC whose retry handler failed. The vendor asks for a reboot instead.
    Restart {
        /// The NIC, such as cxi0.
        device: NicName,
    },
}

impl Args {
    /// Supervises until SIGTERM or SIGINT, or does the task.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn run(self) -> anyhow::Result<()> {
        let root = self.root.into();
        match self.task {
            Some(Task::Ready) => return ready::check(&root),
            Some(Task::Restart { device }) => {
                restart::acknowledge(&root, device)?;
                println!("the failure of {device} is acknowledged: the supervisor starts another one in a moment");
                return Ok(());
            }
            None => {}
        }
        log::init(self.log_format);
        // The program would go on with its built-in defaults, silently.
        if let Some(config) = self.config.as_deref().filter(|config| !config.is_file()) {
            bail!("--config {}: there is no such file", config.display());
        }
        let program = Program { path: self.cxi_rh, config: self.config };
        let config = Config { root, program, interval: self.interval };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let result = runtime.block_on(async {
            let orders = Orders::default();
            listen(&orders)?;
            run(config, orders).await
        });
        // A look that hangs in the kernel must not keep the process.
        runtime.shutdown_background();
        result
    }
}

/// Turns signals into orders, for as long as the process lives: a second SIGTERM is no reason to hurry.
fn listen(orders: &Orders) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let orders = orders.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => orders.end.cancel(),
                _ = interrupt.recv() => orders.end.cancel(),
                _ = hangup.recv() => orders.dump.notify_one(),
            }
        }
    });
    Ok(())
}
