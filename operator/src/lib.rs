//! `operator` moves no node on a view that has become old: each such write carries what it was decided on.
//!
//! The CXI operator. It watches the cluster ([`observe`]), asks the pure engine in `cxi_rollout` what to do
//! ([`reconcile`]), does it ([`act`], the only part that writes), and tells people ([`events`], [`metrics`]).

use std::process::ExitCode;

use clap::Parser;
use cxi_node::log;
use tracing::error;

pub mod act;
pub mod agent_policy;
pub mod cache;
pub mod client;
pub mod clock;
pub mod endpoint;
pub mod events;
#[cfg(feature = "faults")]
pub mod faults;
pub mod flags;
pub mod health;
pub mod http;
pub mod injection;
pub mod leader;
pub mod memory;
pub mod metrics;
pub mod notices;
pub mod observe;
pub mod reconcile;
pub mod run;
mod side;
pub mod watch;

/// The whole program: command line, log, and the operator until it is told to stop.
pub async fn program() -> ExitCode {
    let flags = flags::Flags::parse();
    log::init(flags.log_format);
    // kube's TLS has its provider built in; this call keeps every library from choosing another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run::run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
