//! Flags of the report.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use cxi_hardware::retry_handler::Expectation;
use cxi_node::log::{self, Format};

use crate::{
    flags::{NodeRoot, at_least_a_moment},
    report::{Config, KernelLog, run},
};

/// Report what this node has: loaded modules, open devices and NICs in its CXINode, each NIC as a CXIDevice.
///
/// Needs the node's processes (host PID namespace or the host's /proc) and `CAP_SYS_PTRACE` to see who has a device open.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Node to report about.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,

    #[command(flatten)]
    root: NodeRoot,

    /// Time between two looks at the node.
    #[arg(long, env = "CXI_REPORT_INTERVAL", default_value = "1s", value_parser = at_least_a_moment)]
    interval: Duration,

    /// Time after which a report is written although nothing changed.
    #[arg(long, env = "CXI_REPORT_HEARTBEAT", default_value = "20s", value_parser = at_least_a_moment)]
    heartbeat: Duration,

    /// What is expected of the NICs' retry handlers; a NIC without what is expected is unhealthy.
    #[arg(long, env = "CXI_RETRY_HANDLER", value_enum, default_value_t = Expectation::Ignore)]
    retry_handler: Expectation,

    /// While a driver does not come up or a link is down, report what the kernel's log says of it. Needs `CAP_SYSLOG` where
    /// `kernel.dmesg_restrict` is set.
    #[arg(long, env = "CXI_KERNEL_LOG")]
    kernel_log: bool,

    /// Form of the log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = Format::Json)]
    log_format: Format,
}

impl Args {
    /// Reports until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When there is no API server to be found, or a task is lost.
    pub fn run(self) -> anyhow::Result<()> {
        log::init(self.log_format);
        rustls::crypto::ring::default_provider()
            .install_default()
            .map_err(|_| anyhow!("another TLS provider was installed before"))?;
        // Little work and no hurry: one thread of its own keeps the memory small.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let result = runtime.block_on(self.report());
        // A look that hangs in the kernel must not keep the process.
        runtime.shutdown_background();
        result
    }

    async fn report(self) -> anyhow::Result<()> {
        let shutdown = cxi_node::stop_signal().context("listen for signals")?;
        let mut kubeconfig = kube::Config::infer().await.context("find the API server")?;
        // The client would repeat an old report; the report repeats itself with what it saw since.
        kubeconfig.default_retry = false;
        let client = kube::Client::try_from(kubeconfig).context("set up the client of the API server")?;
        Ok(run(self.into_config(), client, shutdown).await?)
    }

    fn into_config(self) -> Config {
        let Self { node_name: node, root, interval, heartbeat, retry_handler, kernel_log, log_format: _ } = self;
        let kernel_log = if kernel_log { KernelLog::Kernel } else { KernelLog::Unread };
        Config { node, root: root.into(), interval, heartbeat, retry_handler, kernel_log }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use cxi_hardware::Root;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(flags: &str) -> Result<Config, String> {
        let line = Line::try_parse_from(std::iter::once("report").chain(flags.split_whitespace()));
        line.map(|line| line.args.into_config()).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_a_node() {
        let config = parse("--node-name n1").unwrap();
        assert_eq!(config.root, Root::default());
        assert_eq!((config.interval, config.heartbeat), (Duration::from_secs(1), Duration::from_secs(20)));
        assert_eq!((config.retry_handler, config.kernel_log), (Expectation::Ignore, KernelLog::Unread));
        let config =
            parse("--node-name n1 --procfs-root /host/proc --interval 1500ms --retry-handler attached --kernel-log")
                .unwrap();
        assert_eq!(config.root.proc(), "/host/proc");
        assert_eq!(config.interval, Duration::from_millis(1500));
        assert_eq!((config.retry_handler, config.kernel_log), (Expectation::Attached, KernelLog::Kernel));
    }

    #[test]
    fn rejects_what_cannot_work() {
        for (flags, said) in [
            ("", "--node-name"),
            ("--node-name n1 --interval 0s", "at least 100ms"),
            ("--node-name n1 --interval 5", "--interval"),
            ("--node-name n1 --retry-handler yes", "ignore, stay, attached"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(said), "{flags}: {error}");
        }
    }
}
