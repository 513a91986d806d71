//! Flags of the exporter.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use anyhow::Context as _;
use cxi_api::GoDuration;
use cxi_hardware::retry_handler::Expectation;
use cxi_node::{
    http::NodeIps,
    log::{self, Format},
};
use tokio::net::TcpListener;
use tracing::info;

use crate::{
    exporter::{
        collector::{Collector, STATISTICS_WAIT},
        scraper::Scraper,
        selection::{Selection, Term},
        server,
        tls::Tls,
    },
    flags::NodeRoot,
};

/// Serve metrics of this node's NICs and their driver at /metrics, for Prometheus.
///
/// Needs no privilege and no API server. Without a NIC or a driver it serves that there is none.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Value of the label `node`.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,

    /// Address to listen on; without an IP all of this node's.
    #[arg(long, env = "CXI_EXPORTER_LISTEN", value_name = "[IP]:PORT", default_value = ":9090")]
    listen: Listen,

    /// Addresses of this node, from which its kubelet probes: connections from there have places of their own.
    #[arg(long, env = "NODE_IPS", value_name = "IP,…", default_value = "")]
    node_ips: NodeIps,

    /// Certificate chain in PEM; serves HTTPS. Read again when it changes.
    #[arg(long, env = "TLS_CERT_FILE", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate in PEM.
    #[arg(long, env = "TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Telemetry counters to export: names with * and ?, `default` for the built-in list, ! before what to leave out;
    /// the last that fits decides. `default,lpe_*` adds to the list, `lpe_*` replaces it, `!*` exports none.
    #[arg(long, env = "CXI_COUNTERS", value_delimiter = ',', default_value = "default")]
    counters: Vec<Term>,

    /// How old a reading of the node may be that a scrape is answered with; 0s reads it each time.
    #[arg(long, env = "CXI_EXPORTER_MAX_AGE", default_value = "1s", value_parser = age)]
    max_age: Duration,

    /// What is expected of the NICs' retry handlers; a NIC without what is expected is unhealthy.
    #[arg(long, env = "CXI_RETRY_HANDLER", value_enum, default_value_t = Expectation::Ignore)]
    retry_handler: Expectation,

    #[command(flatten)]
    root: NodeRoot,

    /// Form of the log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = Format::Json)]
    log_format: Format,
}

/// The longest time between two scrapes of which each is to see something new.
const LONGEST_MAX_AGE: Duration = Duration::from_secs(10);

fn age(text: &str) -> Result<Duration, String> {
    let GoDuration(age) = text.parse().map_err(|error| format!("{error}"))?;
    if age > LONGEST_MAX_AGE { Err(format!("must be at most {}", GoDuration(LONGEST_MAX_AGE))) } else { Ok(age) }
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listen {
    /// On all addresses, IPv6 and IPv4.
    Everywhere(u16),
    /// On this one.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.strip_prefix(':') {
            Some(port) => port.parse().ok().map(Self::Everywhere),
            None => text.parse().ok().map(Self::At),
        };
        parsed
            .ok_or_else(|| "must be an address and port as 10.0.0.1:9090 or [::1]:9090, or a port as :9090".to_owned())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere(port) => write!(f, ":{port}"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl Listen {
    async fn bind(self) -> io::Result<TcpListener> {
        match self {
            Self::At(address) => TcpListener::bind(address).await,
            // Linux serves IPv4 there too, unless it has no IPv6 at all.
            Self::Everywhere(port) => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
                }
                bound => bound,
            },
        }
    }
}

impl Args {
    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When it cannot listen or the certificate is of no use.
    pub fn run(self) -> anyhow::Result<()> {
        log::init(self.log_format);
        // One scrape at a time and no hurry: no threads but those that read.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(self.serve());
        // A reading that hangs in the kernel must not keep the process.
        runtime.shutdown_background();
        result
    }

    async fn serve(self) -> anyhow::Result<()> {
        let shutdown = cxi_node::stop_signal().context("listen for signals")?;
        let tls = match self.tls_cert.zip(self.tls_key) {
            Some((certificate, key)) => Some(Tls::load(certificate, key)?),
            None => None,
        };
        let selection = Selection::new(self.counters);
        let collector = Collector::new(self.root.into(), self.node_name, selection, STATISTICS_WAIT)
            .context("start reading statistics")?
            .expecting(self.retry_handler);
        let listener = self.listen.bind().await.with_context(|| format!("listen on {}", self.listen))?;
        info!(address = %listener.local_addr().context("tell where it listens")?, tls = tls.is_some(), "serving /metrics");
        server::serve(listener, tls, self.node_ips, Scraper::new(collector, self.max_age), shutdown).await;
        Ok(())
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

    fn parse(flags: &str) -> Result<Args, String> {
        let line = Line::try_parse_from(std::iter::once("exporter").chain(flags.split_whitespace()));
        line.map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_a_node() {
        let args = parse("--node-name n1").unwrap();
        assert_eq!(args.listen, Listen::Everywhere(9090));
        assert_eq!(Selection::new(args.counters), Selection::default());
        assert_eq!((args.max_age, args.retry_handler), (Duration::from_secs(1), Expectation::Ignore));
        assert_eq!(Root::from(args.root), Root::default());
    }

    #[test]
    fn counters_are_a_list() {
        let args = parse("--node-name n1 --counters default,!hni_* --counters lpe_*").unwrap();
        assert_eq!(args.counters.iter().map(ToString::to_string).collect::<Vec<_>>(), ["default", "!hni_*", "lpe_*"]);
    }

    #[test]
    fn rejects_what_cannot_work() {
        for (flags, said) in [
            ("", "--node-name"),
            ("--node-name n1 --listen 9090", "10.0.0.1:9090"),
            ("--node-name n1 --listen :65536", "10.0.0.1:9090"),
            ("--node-name n1 --listen localhost:1", "10.0.0.1:9090"),
            ("--node-name n1 --max-age 11s", "at most 10s"),
            ("--node-name n1 --max-age=-1s", "--max-age"),
            ("--node-name n1 --retry-handler yes", "ignore, stay, attached"),
            ("--node-name n1 --node-ips here", "--node-ips"),
            ("--node-name n1 --counters HNI", "\"HNI\" is not a counter"),
            ("--node-name n1 --counters default,,x", "is not a counter"),
            ("--node-name n1 --tls-cert a.pem", "--tls-key"),
            ("--node-name n1 --tls-key a.pem", "--tls-cert"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(said), "{flags}: {error}");
        }
    }

    #[test]
    fn any_input_is_an_address_or_refused() {
        cxi_any_input::text(&[":9090", "10.0.0.1:9090", "[::1]:65535"], &|text| {
            let listen = text.parse::<Listen>();
            if let Ok(listen) = &listen {
                assert_eq!(listen.to_string().parse().as_ref(), Ok(listen));
            }
            listen.is_ok().into()
        });
    }
}
